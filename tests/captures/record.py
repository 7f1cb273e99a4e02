#!/usr/bin/env python3
"""
record.py LISTEN-PORT BACKEND-PORT DIRECTORY/NAME

Stands between a client and a backend on loopback and writes what they say to
each other into DIRECTORY/NAME-1, -2, ..., one file a connection, until it is
ended. A file is an input of tests/fuzz/fuzz_codec.c (a byte of settings; then
0x10 or 0x11 for the side, length - 1, bytes; 0x06 or 0x0e for a FIN), and
tests/unit/test_captures.c plays it in every way.
"""

import asyncio
import sys


async def relay(out, side, reader, writer):
    while data := await reader.read(65536):
        for at in range(0, len(data), 256):
            piece = data[at:at + 256]
            out.write(bytes([0x10 | side, len(piece) - 1]) + piece)
        writer.write(data)
        await writer.drain()
    out.write(bytes([0x0e if side else 0x06]))
    writer.write_eof()


async def main(listen, backend, path):
    count = 0

    async def connection(reader, writer):
        nonlocal count
        count += 1
        with open(f"{path}-{count}", "wb", buffering=0) as out:
            out.write(b"\0")
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", backend)
            await asyncio.gather(relay(out, 0, reader, back_writer), relay(out, 1, back_reader, writer),
                                 return_exceptions=True)
            writer.close()
            back_writer.close()

    async with await asyncio.start_server(connection, "127.0.0.1", listen) as server:
        await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
    except KeyboardInterrupt:
        pass

"""websocket_python.py PORT yes|no: what websocket.js is, by python's websockets."""

import asyncio
import collections
import json
import os
import ssl
import sys

import websockets


async def pings(ws, n):
    came = collections.Counter()
    for i in range(n):
        waiter = await ws.ping(f"server {i}")
        waiter.add_done_callback(lambda done, i=i: came.update([f"server {i}"]) if not done.cancelled() else None)
        await asyncio.sleep(0.03)
    await asyncio.sleep(0.3)
    await ws.send(json.dumps(came))


async def fragments(data):
    half = len(data) // 2
    yield data[:half]
    await asyncio.sleep(0.06)
    yield data[half:]


async def serve(ws):
    try:
        async for data in ws:
            words = data.split() if isinstance(data, str) and len(data) <= 200 else [""]
            if words and words[0] == "pings":
                await pings(ws, int(words[1]))
            elif words and words[0] == "close":
                await ws.close(int(words[1]), " ".join(words[2:]))
            elif isinstance(data, bytes) and len(data) >= 2:
                await ws.send(fragments(data))
            else:
                await ws.send(data)
    except websockets.ConnectionClosed:
        pass
    await ws.wait_closed()
    print("closed", ws.close_code, ws.close_reason, flush=True)


async def main():
    tls = None
    if "TLS_CERT" in os.environ:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
    compression = "deflate" if sys.argv[2] == "yes" else None
    async with websockets.serve(serve, "127.0.0.1", int(sys.argv[1]), compression=compression, max_size=1 << 26,
                                ping_interval=None, ssl=tls):
        print("ready", flush=True)
        await asyncio.Future()

asyncio.run(main())

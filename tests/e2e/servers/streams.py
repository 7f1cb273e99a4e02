"""
streams.py PORT: an HTTP server (aiohttp) that answers in pieces, with pauses in which heartbeats go out.

/events      server-sent events          /gzip, /length   the same where no heartbeat may go
/chunks      noise in chunks             /late            silent first, then a short answer
/hang        one chunk, then silence     /never           silence
/upload      tells the hash of what was sent

With TLS_CERT and TLS_KEY in the environment: with TLS.
"""

import asyncio
import hashlib
import os
import random
import ssl
import sys

from aiohttp import web

OPEN = {"Access-Control-Allow-Origin": "*"}
PAUSE = 0.15
EVENTS = ["data: one\n\n", "event: named\nid: 2\ndata: two\ndata: lines\n\n", ": a comment of the server\n\n",
          "data: cut in ", "the middle\n\n", "data: ünï\n", "data: and after a line\n\n", "data:\n\n",
          "data: " + 40000 * "long " + "\n\n", "event: last\ndata: bye\n\n"]
NOISE = random.Random(7).randbytes(300_000)
PIECES = [1, 15, 16, 17, 4095, 4096, 65536, 100_000]


async def events(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", **OPEN})
    if request.path == "/length":
        response.content_length = sum(len(e.encode()) for e in EVENTS)
    elif request.path == "/gzip":
        response.enable_compression(web.ContentCoding.gzip)
    await response.prepare(request)
    for event in EVENTS:
        await asyncio.sleep(PAUSE)
        await response.write(event.encode())
    await asyncio.sleep(PAUSE)
    await response.write_eof()
    return response


async def chunks(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    at = 0
    for size in PIECES:
        await asyncio.sleep(PAUSE)
        await response.write(NOISE[at:at + size])
        at += size
    await asyncio.sleep(PAUSE)
    await response.write_eof()
    return response


async def late(request):
    await asyncio.sleep(0.6)
    return web.Response(text="late, but whole\n")


async def hang(request):
    response = web.StreamResponse(headers=OPEN)
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b"the beginning of it")
    print("hangs", flush=True)
    await asyncio.sleep(3600)


async def never(request):
    print("hangs", flush=True)
    await asyncio.sleep(3600)


async def upload(request):
    body = hashlib.sha256()
    async for piece in request.content.iter_any():
        body.update(piece)
    return web.Response(text=body.hexdigest())


async def main():
    app = web.Application()
    app.add_routes([web.get(path, events) for path in ("/events", "/gzip", "/length")])
    app.add_routes([web.get("/chunks", chunks), web.get("/late", late), web.get("/hang", hang),
                    web.get("/never", never), web.post("/upload", upload)])
    runner = web.AppRunner(app)
    await runner.setup()
    tls = None
    if "TLS_CERT" in os.environ:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), ssl_context=tls).start()
    print("ready", flush=True)
    await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())

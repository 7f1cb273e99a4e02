"""websocket_aiohttp.py PORT yes|no: what websocket.js is, by aiohttp (which sends no message in fragments)."""

import asyncio
import collections
import json
import sys

from aiohttp import WSMsgType, web


async def pings(ws, came, n):
    for i in range(n):
        await ws.ping(f"server {i}".encode())
        await asyncio.sleep(0.03)
    await asyncio.sleep(0.3)
    await ws.send_str(json.dumps(came))


async def serve(request):
    ws = web.WebSocketResponse(autoping=False, compress=sys.argv[2] == "yes", max_msg_size=1 << 26)
    came, tasks = collections.Counter(), []
    await ws.prepare(request)
    async for message in ws:
        words = message.data.split() if message.type == WSMsgType.TEXT and len(message.data) <= 200 else []
        if message.type == WSMsgType.PING:
            await ws.pong(message.data)
        elif message.type == WSMsgType.PONG and message.data:	# an empty one is a heartbeat of stent's
            came[bytes(message.data).decode()] += 1
        elif words and words[0] == "pings":
            tasks.append(asyncio.create_task(pings(ws, came, int(words[1]))))
        elif words and words[0] == "close":
            await ws.close(code=int(words[1]), message=" ".join(words[2:]).encode())
        elif message.type == WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    print("closed", ws.close_code, flush=True)
    return ws


async def main():
    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    print("ready", flush=True)
    await asyncio.Future()

asyncio.run(main())

"""websocket_aiohttp.py PORT: what websocket.js is, by aiohttp (which sends no message in fragments: each goes again whole)."""

import asyncio
import collections
import json
import os
import sys

import aiohttp
from aiohttp import WSMsgType

SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
seen = {"wrong": [], "messages": 0, "pongs": collections.Counter(), "server": None}


async def receive(ws):
    """The next message; pings are replied to, and pongs counted, on the way."""
    while True:
        message = await ws.receive()
        if message.type == WSMsgType.PING:
            await ws.pong(message.data)
        elif message.type == WSMsgType.PONG:
            if message.data:	# an empty one is a heartbeat of stent's
                seen["pongs"][bytes(message.data).decode()] += 1
        else:
            return message


async def exchange(ws, data):
    await (ws.send_str(data) if isinstance(data, str) else ws.send_bytes(data))
    got = (await receive(ws)).data
    seen["messages"] += 1
    if got != data:
        seen["wrong"].append(f"message of {len(data)}: {got!r:.40} came")


async def converse(ws):
    for size in SIZES:
        noise, text = os.urandom(size), ("stent " * (1 + size // 6))[:size]
        await ws.ping(f"client {size}".encode())
        for data in (noise, text, noise):
            await exchange(ws, data)
            await asyncio.sleep(0.03)
    await ws.send_str("pings 5")
    seen["server"] = json.loads((await receive(ws)).data)
    await ws.send_str("close 4321 as agreed")
    end = await receive(ws)
    seen["code"], seen["reason"] = end.data, end.extra


async def main():
    async with aiohttp.ClientSession() as session, session.ws_connect(
            f"http://127.0.0.1:{sys.argv[1]}/", autoping=False, autoclose=False, max_msg_size=1 << 26, compress=15) as ws:
        seen["extensions"] = "permessage-deflate" if ws.compress else ""
        await converse(ws)
        await ws.close()
    print(json.dumps(seen), flush=True)

asyncio.run(main())

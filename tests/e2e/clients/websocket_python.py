"""websocket_python.py PORT [wait]: what websocket.js is, by python's websockets. SCHEME in the environment: wss for TLS; SSL_CERT_FILE is OpenSSL's own word for a CA."""

import asyncio
import collections
import json
import os
import sys

import websockets

SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
seen = {"wrong": [], "messages": 0, "pongs": collections.Counter(), "server": None}


async def fragments(data):
    yield data[:len(data) // 4]
    await asyncio.sleep(0.06)
    yield data[len(data) // 4:]


async def exchange(ws, data, in_fragments=False):
    await ws.send(fragments(data) if in_fragments else data)
    got = await ws.recv()
    seen["messages"] += 1
    if got != data:
        seen["wrong"].append(f"message of {len(data)}: {len(got)} came")


async def converse(ws):
    for size in SIZES:
        noise, text = os.urandom(size), ("stent " * (1 + size // 6))[:size]
        await exchange(ws, noise)
        await exchange(ws, text)
        await exchange(ws, noise, in_fragments=True)
        waiter = await ws.ping(f"client {size}")
        waiter.add_done_callback(lambda _, size=size: seen["pongs"].update([f"client {size}"]))
        await asyncio.sleep(0.06)
    await ws.send("pings 5")
    seen["server"] = json.loads(await ws.recv())
    await ws.send("close 4321 as agreed")


async def main():
    async with websockets.connect(f"{os.environ.get('SCHEME', 'ws')}://127.0.0.1:{sys.argv[1]}/", max_size=1 << 26, ping_interval=None) as ws:
        seen["extensions"] = ", ".join(e.name for e in ws.extensions)
        if sys.argv[2:] == ["wait"]:
            await ws.send("hello")
            await ws.recv()
            print("open", flush=True)
        else:
            await converse(ws)
        await ws.wait_closed()
    seen["code"], seen["reason"] = ws.close_code, ws.close_reason
    print(json.dumps(seen), flush=True)

asyncio.run(main())

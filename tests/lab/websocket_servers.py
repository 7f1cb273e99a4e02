"""websocket_servers.py HOST PORT ...: WebSocket servers by python's websockets that keep idle clients."""

import asyncio
import contextlib
import sys

import websockets


async def serve(ws):
    await ws.wait_closed()


async def main():
    async with contextlib.AsyncExitStack() as servers:
        for port in sys.argv[2:]:
            await servers.enter_async_context(websockets.serve(serve, sys.argv[1], int(port), ping_interval=None, compression=None))
        print("ready", flush=True)
        await asyncio.Future()

asyncio.run(main())

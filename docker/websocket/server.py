"""Sends back every message, and sends no ping of its own."""

import asyncio

import websockets


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", 8081, ping_interval=None):
        await asyncio.Future()


asyncio.run(main())

"""http_python.py LIBRARY get|upload|text URL: what http.js is, by requests, httpx, aiohttp or http.client."""

import asyncio
import hashlib
import http.client
import json
import sys
import time
import urllib.parse

library, what, url = sys.argv[1:]
sent = hashlib.sha256()


def pieces():
    for size in (1, 15, 16, 17, 4096, 65536):
        piece = str(size).encode()[:1] * size
        sent.update(piece)
        yield piece
        time.sleep(0.15)


def by_requests():
    import requests
    if what == "upload":
        answer = requests.post(url, data=pieces(), timeout=30)
    else:
        answer = requests.get(url, timeout=30, stream=True)
    return answer.status_code, answer.content


def by_httpx():
    import httpx
    if what == "upload":
        answer = httpx.post(url, content=pieces(), timeout=30)
    else:
        answer = httpx.get(url, timeout=30)
    return answer.status_code, answer.content


def by_http_client():
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    if what == "upload":
        connection.request("POST", parts.path, body=pieces(), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})
    else:
        connection.request("GET", parts.path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def by_aiohttp():
    import aiohttp

    async def get():
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.read()
    return asyncio.run(get())


def main():
    try:
        status, body = {"requests": by_requests, "httpx": by_httpx, "http.client": by_http_client,
                        "aiohttp": by_aiohttp}[library]()
    except Exception as problem:
        return {"error": repr(problem)}
    seen = {"status": status, "hash": hashlib.sha256(body).hexdigest(), "sent": sent.hexdigest()}
    if what != "get":
        seen["text"] = body.decode()
    return seen


print(json.dumps(main()))

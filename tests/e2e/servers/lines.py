"""
lines.py PORT: a server of a home-grown protocol, a line a command.

ADD a b -> = c      PING -> PONG      NOOP -> (nothing)      COUNT -> how often it heard each, as JSON
"""

import collections
import json
import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        heard = collections.Counter(ADD=0, PING=0, NOOP=0, unknown=0)
        for line in self.rfile:
            words = line.decode().split()
            name = words[0] if words and words[0] in ("ADD", "PING", "NOOP", "COUNT") else "unknown"
            heard[name] += 1
            answer = {"ADD": lambda: f"= {int(words[1]) + int(words[2])}", "PING": lambda: "PONG", "NOOP": lambda: None,
                      "COUNT": lambda: json.dumps(heard), "unknown": lambda: "?"}[name]()
            if answer is not None:
                self.wfile.write(answer.encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()

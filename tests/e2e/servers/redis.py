"""A real Redis for the tests: in a folder of its own, on loopback, stopped when done."""

import pathlib
import shutil
import subprocess
import tempfile

import harness


def command(*words):
    """As clients send it."""
    parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


class Redis:
    def __init__(self, *options, certificates=None, demands_certificate=False):
        """With certificates its port has TLS; it may demand one of its client, too. ask() is always without."""
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stent-redis-"))
        self.port = self.plain_port = harness.free_port()
        if certificates:
            self.port = harness.free_port()
            good = certificates.good
            options = ("--tls-port", self.port, "--tls-cert-file", good.cert, "--tls-key-file", good.key,
                       "--tls-ca-cert-file", certificates.ca, "--tls-auth-clients", "yes" if demands_certificate else "no", *options)
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["redis-server", "--port", str(self.plain_port), "--bind", harness.HOST, "--dir", str(self.directory),
                 "--save", "", *map(str, options)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        harness.wait_for(self._ready, 20, "redis-server to answer")

    def _ready(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            with harness.connect(self.plain_port) as c:
                c.send_all(b"PING\r\n")
                return c.recv_some()
        except OSError:
            return None

    def ask(self, *words):
        """A command on a connection of its own, past stent; its reply as it comes."""
        with harness.connect(self.plain_port) as c:
            c.send_all(command(*words))
            return c.recv_some()

    def info(self, section, key):
        lines = dict(line.split(":", 1) for line in self.ask("INFO", section).decode().splitlines() if ":" in line)
        return lines[key]

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

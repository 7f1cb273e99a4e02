"""
programs.py - the servers and clients of other people that tests put at both ends: processes whose lines are read.

    with programs.Program("node", "servers/websocket.js", port, "no") as server:
        server.wait_line("ready")
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading

import harness

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"


class Program:
    """
    A process started in this folder; what it prints is kept, line by line. Ended at the latest with the block.
    env: variables besides those that are there.
    """

    def __init__(self, *command, env=None):
        self.lines = []
        self._heard = threading.Condition()
        self._taken = 0
        self.process = subprocess.Popen(
            [*map(str, command)], cwd=HERE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", env={**os.environ, **(env or {})})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._heard:
                self.lines.append(line.rstrip("\n"))
                self._heard.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def pid(self):
        return self.process.pid

    def wait_line(self, pattern, timeout=20):
        """The next line in which the pattern is found, after those that were given out."""
        def find():
            while self._taken < len(self.lines):
                self._taken += 1
                if re.search(pattern, self.lines[self._taken - 1]):
                    return self.lines[self._taken - 1]
            return None

        with self._heard:
            line = self._heard.wait_for(find, harness.patient(timeout))
            assert line is not None, f"no line with {pattern!r} came; it said:\n" + "\n".join(self.lines)
            return line

    def result(self, timeout=40):
        """Waits for its end; the JSON that it printed last."""
        status = self.process.wait(harness.patient(timeout))
        self._reader.join(5)
        assert status == 0 and self.lines, f"status {status}:\n" + "\n".join(self.lines)
        return json.loads(self.lines[-1])

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()

"""A real Sphinx for the tests: it speaks MySQL's protocol and is no MySQL. In a folder of its own, on loopback, stopped when done."""

import pathlib
import shutil
import subprocess
import tempfile

import harness

SETTINGS = """
index t
{{
	type = rt
	path = {directory}/t
	rt_field = text
	rt_attr_uint = v
}}
searchd
{{
	listen = 127.0.0.1:{port}:mysql41
	log = {directory}/log
	query_log = {directory}/queries
	binlog_path =
	pid_file = {directory}/pid
	workers = threads
}}
"""


class Sphinx:
    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stent-sphinx-"))
        self.port = harness.free_port()
        settings = self.directory / "sphinx.conf"
        settings.write_text(SETTINGS.format(directory=self.directory, port=self.port))
        with open(self.directory / "output", "wb") as output:
            self.process = subprocess.Popen(["searchd", "--nodetach", "--config", settings], stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=output)
        harness.wait_for(self._ready, 20, "searchd to answer")

    def _ready(self):
        assert self.process.poll() is None, (self.directory / "output").read_text()
        try:
            with harness.connect(self.port) as c:
                return c.recv_some()
        except OSError:
            return None

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

"""A real HAProxy, and an nginx with its stream module, set up by the test's own text."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import harness

HAPROXY = """
global
	maxconn 2000
	stats socket {directory}/control mode 600
defaults
	mode tcp
	timeout connect 5s
	timeout client 60s
	timeout server 60s
{text}
"""
STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
NGINX = """
{module} {user} daemon off; pid {directory}/pid; error_log {directory}/log; worker_processes 1;
events {{ worker_connections 1000; }}
{text}
"""


class _Program:
    def _start(self, command, ports):
        with open(self.directory / "out", "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        harness.wait_for(lambda: self._listens(ports), 20, f"{command[0]} to listen")

    def _listens(self, ports):
        """Without connecting: what is behind it would see that."""
        assert self.process.poll() is None, (self.directory / "out").read_text()
        with open("/proc/net/tcp") as f:
            listening = {int(line.split()[1].rsplit(":", 1)[1], 16) for line in list(f)[1:] if line.split()[3] == "0A"}
        return set(ports) <= listening

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.directory)


class Haproxy(_Program):
    def __init__(self, text, *ports):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stent-haproxy-"))
        conf = self.directory / "conf"
        conf.write_text(HAPROXY.format(text=text, directory=self.directory))
        self._start(["/usr/sbin/haproxy", "-db", "-f", str(conf)], ports)


class NginxStream(_Program):
    def __init__(self, text, *ports):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stent-nginx-"))
        conf = self.directory / "conf"
        conf.write_text(NGINX.format(text=text, directory=self.directory, user="user root;" if os.getuid() == 0 else "",
                                     module=f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""))
        self._start(["/usr/sbin/nginx", "-c", str(conf)], ports)

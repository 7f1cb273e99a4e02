"""A real nginx for the tests: on a port and on a UNIX socket it serves a folder and takes uploads into it (PUT), or does as it is told."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import harness

SETTINGS = """
daemon off; pid {directory}/pid; error_log {directory}/log; {user} worker_processes 1;
events {{ worker_connections 1000; }}
http {{
	access_log off; client_body_temp_path {directory}/body; client_max_body_size 0; keepalive_timeout 60s;
	proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
	server {{
		listen {host}:{port}; listen unix:{directory}/socket; root {directory}/files;
		location / {{ {location} }}
	}}
}}
"""


class Nginx:
    def __init__(self, location="dav_methods PUT;"):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stent-nginx-"))
        self.files = self.directory / "files"
        self.files.mkdir()
        self.port = harness.free_port()
        self.text = f"{harness.HOST}:{self.port}"
        self.unix = f"unix:{self.directory}/socket"
        conf = self.directory / "conf"
        conf.write_text(SETTINGS.format(directory=self.directory, host=harness.HOST, port=self.port, location=location,
                                        user="user root;" if os.getuid() == 0 else ""))
        self.process = subprocess.Popen(["/usr/sbin/nginx", "-c", str(conf)], stdin=subprocess.DEVNULL)
        harness.wait_for(self._answers, 20, "nginx to answer")

    def _answers(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            harness.connect(self.port).close()
            return True
        except OSError:
            return False

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.directory)

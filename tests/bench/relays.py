"""The relays that are compared: each knows how to write its settings and how to start.

All run one relaying thread on the same core, without logs, with limits far above what a bench
asks for. HAProxy and nginx are given the settings that served each bench best here (README.md).
"""
import contextlib
import getpass
import os
import resource
import shutil
import signal
import subprocess
import time

RELAY_CORE, LOAD_CORE = 0, 1
START_TIMEOUT_S = 10


class BenchError(Exception):
    """The run cannot go on; the text says why."""


def pin(core, first=False):
    """For preexec_fn: one core, as many descriptors as may be had, and before all others on a shared machine;
    first: before whoever else is pinned there as well."""
    def set_up():
        os.sched_setaffinity(0, {core})
        if first:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        with contextlib.suppress(OSError):      # an autogroup of its own, where there are any
            os.setsid()
            with open("/proc/self/autogroup", "w") as f:
                f.write("-20")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return set_up


def is_listening(port):
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(name) as lines:
            for line in lines:
                words = line.split()
                if words[3] == "0A" and words[1].endswith(":%04X" % port):
                    return True
    return False


def children_of(pid):
    """The process and all below it."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    parents[int(name)] = int(f.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    family = [pid]
    for member in family:
        family += [p for p, parent in parents.items() if parent == member]
    return family


class Relay:
    """A relay under test. `settings` are what a bench asks for: splice, protocol, keys, heartbeat_rate; and `beside`, a
    list with a second pair of ports, for stent with a protocol and keys of its own (beside_protocol, beside_keys); and `tls`, the
    legs that are TLS ("client", "backend"), with `pem`, certificate and key."""
    name = None
    program = None

    def __init__(self, work):
        self.work = work

    def command(self, listen, backend, settings):
        raise NotImplementedError

    def version(self):
        return ""

    def missing(self):
        return None if shutil.which(self.program) else "%s is not installed" % self.program

    def write(self, name, text):
        path = os.path.join(self.work, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def start(self, listen, backend, **settings):
        return Running(self, self.command(listen, backend, settings), listen)


def pairs(listen, backend, settings):
    return [{"listen": a, "backend": b} for a, b in [(listen, backend), *settings.get("beside", [])]]


class Running:
    """A relay that listens. Leave the `with` and it is gone."""

    def __init__(self, relay, argv, listen):
        self.relay = relay
        self.log = os.path.join(relay.work, relay.name + ".log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=pin(RELAY_CORE))
        try:
            self.wait_until_up(listen)
        except BaseException:
            self.stop()
            raise
        self.pids = children_of(self.process.pid)

    def wait_until_up(self, listen):
        end = time.monotonic() + START_TIMEOUT_S
        while not is_listening(listen):
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log) as log:
                    raise BenchError("%s did not start:\n%s" % (self.relay.name, log.read()))
            time.sleep(0.02)
        time.sleep(0.1)     # its other threads and processes

    def stop(self):
        """A short time to end by itself; its flows are of no interest any more."""
        for how, patience_s in ((signal.SIGTERM, 0.3), (signal.SIGTERM, 1), (signal.SIGKILL, 10)):
            if self.process.poll() is None:
                self.process.send_signal(how)
            try:
                self.process.wait(patience_s)
                return
            except subprocess.TimeoutExpired:
                continue
        raise BenchError("%s does not end" % self.relay.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Floor(Relay):
    name = "floor"

    def missing(self):
        return None     # built with the load

    def command(self, listen, backend, settings):
        argv = [os.path.join(self.work, "floor"), str(listen), str(backend)]
        if settings.get("heartbeat_rate"):
            argv += ["--heartbeat", "%.0f" % settings["heartbeat_rate"]]
        return argv


class HAProxy(Relay):
    name = program = "haproxy"
    splicing = {
        None: ("", ""),
        "auto": ("", "option splice-auto"),
        "forced": ("tune.pipesize 1048576", "option splice-request\n    option splice-response"),
    }
    config = """
global
    nbthread 1
    maxconn 8500
    maxpipes 1000
    %(tune)s
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout client-fin 1h
    timeout server-fin 1h
    %(options)s
"""
    route = """
listen relay%(listen)d
    bind 127.0.0.1:%(listen)d backlog 4096 %(bind)s
    server backend 127.0.0.1:%(backend)d %(server)s
"""

    def version(self):
        out = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout
        return out.split()[2] if out else ""

    def command(self, listen, backend, settings):
        tune, options = self.splicing[settings.get("splice")]
        text = self.config % {"options": options, "tune": tune}
        tls = settings.get("tls", ())
        legs = {"bind": "ssl crt %s" % settings["pem"] if "client" in tls else "",
                "server": "ssl verify none" if "backend" in tls else ""}
        for ports in pairs(listen, backend, settings):
            text += self.route % dict(ports, **legs)
        return ["haproxy", "-db", "-f", self.write("haproxy.cfg", text)]


class Nginx(Relay):
    name = program = "nginx"
    config = """
%(load)s
%(user)s
daemon off;
pid %(work)s/nginx.pid;
error_log %(work)s/nginx-error.log crit;
worker_processes 1;
worker_rlimit_nofile %(files)d;
events {
    worker_connections %(connections)d;
    multi_accept on;
    use epoll;
}
stream {
    access_log off;
    tcp_nodelay on;
    proxy_timeout 1h;
    proxy_buffer_size %(buffer)s;
    %(routes)s
}
"""
    route = """
    upstream backend%(backend)d { server 127.0.0.1:%(backend)d max_fails=0; }
    server {
        listen 127.0.0.1:%(listen)d backlog=4096 so_keepalive=off %(ssl)s;
        proxy_pass backend%(backend)d;
        %(more)s
    }
"""
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"

    def missing(self):
        if not shutil.which(self.program):
            return "nginx is not installed"
        return None if os.path.exists(self.module) else "%s is missing (libnginx-mod-stream)" % self.module

    def version(self):
        out = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr
        return out.strip().rpartition("/")[2]

    def command(self, listen, backend, settings):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        tls, pem = settings.get("tls", ()), settings.get("pem")
        more = "ssl_certificate %s; ssl_certificate_key %s; ssl_session_cache shared:tls:10m; ssl_protocols TLSv1.2 TLSv1.3;" % (
            pem, pem) if "client" in tls else ""
        more += " proxy_ssl on; proxy_ssl_protocols TLSv1.2 TLSv1.3;" if "backend" in tls else ""
        text = self.config % {
            "load": "load_module %s;" % self.module, "work": self.work,
            "user": "user root root;" if os.getuid() == 0 else "",
            "files": files, "connections": min(files, 18000),
            "routes": "".join(self.route % dict(ports, ssl="ssl" if "client" in tls else "", more=more) for ports in pairs(listen, backend, settings)),
            "buffer": "256k" if settings.get("splice") else "16k"}
        return ["nginx", "-p", self.work, "-e", os.path.join(self.work, "nginx-error.log"),
                "-c", self.write("nginx.conf", text)]


class Stent(Relay):
    name = "stent"
    config = """
[stent]
workers = 1
log_level = warn
control = off
admin = off
user = %(user)s
drain_timeout = 100ms
"""
    route = """
[route bench%(listen)d]
listen = 127.0.0.1:%(listen)d
backend = 127.0.0.1:%(backend)d
protocol = %(protocol)s
%(more)s
"""

    def __init__(self, work, program):
        super().__init__(work)
        self.program = program

    def version(self):
        out = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout
        return out.split()[-1] if out else ""

    def command(self, listen, backend, settings):
        text = self.config % {"user": getpass.getuser()}
        tls, keys = settings.get("tls", ()), dict(settings.get("keys", {}))
        if "client" in tls:
            keys.update({"client.tls": "require", "client.tls_cert": settings["pem"], "client.tls_key": settings["pem"]})
        if "backend" in tls:
            keys["backend.tls"] = "insecure"
        routes = [dict(settings, keys=keys), {"protocol": settings.get("beside_protocol"), "keys": settings.get("beside_keys", {})}]
        for ports, route in zip(pairs(listen, backend, settings), routes):
            more = "".join("%s = %s\n" % item for item in route.get("keys", {}).items())
            text += self.route % dict(ports, protocol=route.get("protocol", "tcp"), more=more)
        return [self.program, "run", "-c", self.write("stent.ini", text)]

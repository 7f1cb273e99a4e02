"""
lab.py - a small network of namespaces on this machine.

    client --- fwc --- stent --- fwb --- backend

Two firewalls, one on either side of stent; each forwards, and each can be
made forgetful or broken. stent's host forwards too, so that a client can also
go straight to the backend, through both. Made and removed by the `lab` fixture.

Sockets are made inside a namespace by a thread that enters it for a moment;
from then on any thread may use them.
"""

import contextlib
import ctypes
import itertools
import os
import subprocess
import threading

import harness

HOSTS = ["client", "fwc", "stent", "fwb", "backend"]
CLONE_NEWNET = 0x40000000
_serial = itertools.count()


def run(*command, check=True):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout


class Lab:
    def __init__(self):
        self.prefix = f"st{os.getpid()}x{next(_serial)}-"
        self.address = {}		# host -> its address toward the middle
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        for host in HOSTS:
            run("ip", "netns", "add", self.ns(host))
            self.ip(host, "link", "set", "lo", "up")
            self.sysctl(host, "net.ipv4.ip_forward", 1)
        for i, (left, right) in enumerate(zip(HOSTS, HOSTS[1:])):
            run("ip", "link", "add", f"to-{right}", "netns", self.ns(left), "type", "veth",
                "peer", f"to-{left}", "netns", self.ns(right))
            for host, other, last in ((left, right, 1), (right, left, 2)):
                self.ip(host, "addr", "add", f"10.99.{i}.{last}/24", "dev", f"to-{other}")
                self.ip(host, "link", "set", f"to-{other}", "up")
        # Everything to the right goes right, everything to the left goes left.
        for at, host in enumerate(HOSTS):
            for i in range(4):
                if i < at - 1:
                    self.ip(host, "route", "add", f"10.99.{i}.0/24", "via", f"10.99.{at - 1}.1")
                elif i > at:
                    self.ip(host, "route", "add", f"10.99.{i}.0/24", "via", f"10.99.{at}.2")
        self.address = {"client": "10.99.0.1", "backend": "10.99.3.2", "stent": "10.99.1.2"}

    def ns(self, host):
        return self.prefix + host

    def ip(self, host, *words):
        return run("ip", "-n", self.ns(host), *words)

    def sysctl(self, host, name, value):
        run("ip", "netns", "exec", self.ns(host), "sysctl", "-qw", f"{name}={value}")

    def nft(self, host, rules):
        run("ip", "netns", "exec", self.ns(host), "nft", rules)

    def inside(self, host):
        """Words that go before a command."""
        return ("ip", "netns", "exec", self.ns(host))

    def call(self, host, fn):
        """Calls fn in a thread inside the host's namespace; returns what it returns."""
        result = []

        def work():
            try:
                with open(f"/run/netns/{self.ns(host)}") as f:
                    libc = ctypes.CDLL(None, use_errno=True)
                    assert libc.setns(f.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
                result.append((fn(), None))
            except BaseException as problem:
                result.append((None, problem))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        value, problem = result[0]
        if problem:
            raise problem
        return value

    def connect(self, host, address, **how):
        return self.call(host, lambda: harness.connect(address, **how))

    def backend(self, host="backend", port=7000):
        return self.backend_at(host, self.address[host], port)

    def backend_at(self, host, address, port):
        return self.call(host, lambda: harness.RawBackend(host=address, port=port))

    # --- what middleboxes and hosts do ---

    def forgetful(self, firewall, seconds=4, count_only_payload=False):
        """
        Connection tracking that forgets an established flow after so many quiet seconds and drops what
        it does not know. count_only_payload: packets without payload do not refresh it (they pass untracked).
        """
        self.nft(firewall, "add table ip fw; add chain ip fw forward "
                 "{ type filter hook forward priority 0; policy accept; }; add rule ip fw forward ct state invalid drop")
        for name, value in (("established", seconds), ("unacknowledged", seconds), ("max_retrans", seconds)):
            self.sysctl(firewall, f"net.netfilter.nf_conntrack_tcp_timeout_{name}", value)
        self.sysctl(firewall, "net.netfilter.nf_conntrack_tcp_loose", 0)
        if count_only_payload:
            # A bare acknowledgement: flags ACK alone, and no byte behind the header (total length =
            # both headers: 20 + 20 and up to 40 bytes of options; data of a heartbeat is marked PSH).
            self.nft(firewall, "add chain ip fw raw { type filter hook prerouting priority -300; policy accept; }; "
                     "add rule ip fw raw tcp flags & (fin | syn | rst | psh | ack) == ack meta length < 81 notrack; "
                     "add rule ip fw raw tcp flags & (fin | syn | rst | psh | ack) == ack meta length < 81 accept")
            self.nft(firewall, "insert rule ip fw forward ct state untracked accept")

    def drop(self, host, rule="", hook="forward"):
        """The path is broken without a word."""
        self.nft(host, f"add table ip broken; add chain ip broken c {{ type filter hook {hook} priority -10; }}; "
                 f"add rule ip broken c meta l4proto tcp {rule} drop")

    def heal(self, host):
        self.nft(host, "delete table ip broken")

    def pull_cable(self, host, toward):
        self.ip(host, "link", "set", f"to-{toward}", "down")

    def close(self):
        for host in HOSTS:
            with contextlib.suppress(AssertionError):
                run("ip", "netns", "del", self.ns(host))

"""
trio.py - client --- stent --- server, of both families: stent's host is the gateway between the two.
"""

import lab as lab_module

HOSTS = ("client", "stent", "server")
TOWARD = {"client": ("10.98.0.", "fd98::"), "server": ("10.98.1.", "fd98:1::")}


class Trio(lab_module.Lab):
    def _build(self):
        for host in HOSTS:
            lab_module.run("ip", "netns", "add", self.ns(host))
            self.ip(host, "link", "set", "lo", "up")
        for name in "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding":
            self.sysctl("stent", name, 1)
        for host, (v4, v6) in TOWARD.items():
            lab_module.run("ip", "link", "add", "wire", "netns", self.ns(host), "type", "veth",
                           "peer", f"to-{host}", "netns", self.ns("stent"))
            for at, device, last in ((host, "wire", 1), ("stent", f"to-{host}", 2)):
                self.ip(at, "link", "set", device, "addrgenmode", "none")		# else it comes up later
                self.ip(at, "addr", "add", f"fe80::{last}/64", "dev", device, "nodad")
                self.ip(at, "addr", "add", f"{v4}{last}/24", "dev", device)
                self.ip(at, "addr", "add", f"{v6}{last}/64", "dev", device, "nodad")
                self.ip(at, "link", "set", device, "up")
            self.ip(host, "route", "add", "default", "via", f"{v4}2")
            self.ip(host, "-6", "route", "add", "default", "via", f"{v6}2")
        self.address = {host: dict(zip("46", (f"{v4}1", f"{v6}1"))) for host, (v4, v6) in TOWARD.items()}
        self.gateway = {"4": "10.98.0.2", "6": "fd98::2"}		# stent's own, toward the client

    def backend(self, family, port=7777):
        return super().backend_at("server", self.address["server"][family], port)

    def dump(self):
        """All that a firewall and routing could be made of on stent's host."""
        run = lambda *words: lab_module.run(*self.inside("stent"), *words)
        return [run("nft", "list", "ruleset")] + [run("ip", family, *words) for family in ("-4", "-6")
                                                  for words in (("rule",), ("route", "show", "table", "all"))]

    def close(self):
        for host in HOSTS:
            lab_module.run("ip", "netns", "del", self.ns(host), check=False)


def text(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

"""
proxy_headers.py - headers of the PROXY protocol, written and read by the tests' own means.

    client.send_all(v2("192.0.2.1", "198.51.100.2", 1234, 443, tlvs=[(UNIQUE_ID, b"x")]) + b"payload")
    header = read(backend)          # a Header; the bytes behind it are unread
"""

import collections
import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL = 1, 2, 3, 4, 5, 0x20
SSL_VERSION, SSL_CN, SSL_CIPHER = 0x21, 0x22, 0x23

# source, destination: "192.0.2.1:1234", "unix", or None; command: "LOCAL", "PROXY"; ssl: (client bits, verify, {type: value}).
Header = collections.namedtuple("Header", "version command source destination tlvs ssl")


def v1(source, destination, source_port, destination_port):
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def raw_v2(command, family, block):
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


def v2(source, destination, source_port, destination_port, tlvs=(), with_crc=False):
    ends = [ipaddress.ip_address(a) for a in (source, destination)]
    block = b"".join(a.packed for a in ends) + struct.pack("!HH", source_port, destination_port)
    tlvs = list(tlvs) + ([(CRC32C, b"\0\0\0\0")] if with_crc else [])
    block += b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in tlvs)
    header = raw_v2(0x21, 0x11 if ends[0].version == 4 else 0x21, block)
    return header[:-4] + struct.pack("!I", crc32c(header)) if with_crc else header


def _tlvs(data):
    found = {}
    while data:
        kind, length = struct.unpack("!BH", data[:3])
        assert len(data) >= 3 + length
        found[kind] = data[3:3 + length]
        data = data[3 + length:]
    return found


def _address(ip, port):
    ip = ipaddress.ip_address(ip)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def _read_v1(peer, begun):
    line = begun
    while not line.endswith(b"\r\n"):
        line += peer.recv_exact(1)
        assert len(line) <= 107
    words = line.decode().split()
    if words[1] == "UNKNOWN":
        return Header(1, "PROXY", None, None, {}, None)
    return Header(1, "PROXY", _address(words[2], words[4]), _address(words[3], words[5]), {}, None)


def read(peer):
    """Reads the header that a connection begins with, and not a byte more."""
    begun = peer.recv_exact(12)
    if begun != SIGNATURE:
        return _read_v1(peer, begun)
    command, family, length = struct.unpack("!BBH", peer.recv_exact(4))
    block = peer.recv_exact(length) if length else b""
    size = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}[family]
    source = destination = None
    if family in (0x11, 0x21):
        n = size // 2 - 2
        ports = struct.unpack("!HH", block[2 * n:size])
        source, destination = _address(block[:n], ports[0]), _address(block[n:2 * n], ports[1])
    elif family == 0x31:
        source, destination = (block[i:i + 108].rstrip(b"\0").decode() or "unix" for i in (0, 108))
    tlvs = _tlvs(block[size:])
    ssl = None
    if SSL in tlvs:
        bits, verify = struct.unpack("!BI", tlvs[SSL][:5])
        ssl = (bits, verify, _tlvs(tlvs[SSL][5:]))
    return Header(2, {0x20: "LOCAL", 0x21: "PROXY"}[command], source, destination, tlvs, ssl)

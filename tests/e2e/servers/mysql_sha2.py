"""
A server that asks for passwords as MySQL 8 does: caching_sha2_password, sha256_password, mysql_clear_password; with TLS
or without, on TCP or a UNIX socket. Each query is replied to as in mysql_like.py. Written from MySQL's documentation of
the protocol, as MySQL 8 is not in Debian.
"""

import functools
import hashlib
import os
import socket
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from servers.mysql_like import AS_MYSQL, COM_STATISTICS, COM_STMT_CLOSE, OK, MysqlLike, error

PASSWORD = "a password that nobody guesses"
SSL, PLUGIN_AUTH, LENENC_AUTH = 0x800, 0x80000, 0x200000
MORE, REQUEST_KEY, FAST, FULL = b"\1", b"\2", b"\1\3", b"\1\4"
DENIED = error(1045, b"Access denied").replace(b"42000", b"28000")
OUT_OF_ORDER = error(1156, b"Got packets out of order").replace(b"42000", b"08S01")


@functools.cache
def _key():
    return rsa.generate_private_key(65537, 2048)


def sha256(*data):
    return hashlib.sha256(b"".join(data)).digest()


def xor(a, b):
    return bytes(x ^ b[i % len(b)] for i, x in enumerate(a))


class Exactly:
    """Reads what is asked for, and not a byte of the TLS behind it."""

    def __init__(self, sock):
        self.sock = sock

    def read(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


class MysqlSha2(MysqlLike):
    """
    method: the account's; switch: the greeting names another one, so that the client is told to switch.
    cached: the fast way. context: of TLS. path: of a UNIX socket.
    """

    def __init__(self, method="caching_sha2_password", switch=False, cached=False, context=None, path=None):
        self.method, self.switch, self.cached, self.context, self.is_unix = method, switch, cached, context, path is not None
        self.end_of_nonce = b"\0"	# when it tells to switch; PyMySQL 1.0 does not expect it
        self.logins = 0
        self.in_the_clear = b""		# what came without TLS, of all clients
        sock = None
        if path:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(path))
            sock.listen()
        does = {COM_STATISTICS: b"Uptime: 1  Threads: 1", COM_STMT_CLOSE: None}
        super().__init__(does, AS_MYSQL | PLUGIN_AUTH | LENENC_AUTH | (SSL if context else 0), sock=sock)

    def _session(self, sock, _stream):
        stream = Exactly(sock)
        nonce = os.urandom(20).replace(b"\0", b"x")
        caps, named = self.capabilities, "mysql_native_password" if self.switch else self.method
        self._send(sock, 0, b"\x0a8.0.11\0" + struct.pack("<I", 7) + nonce[:8] + b"\0" + struct.pack("<HBHHB", caps & 0xffff, 33, 2, caps >> 16, 21)
                   + bytes(10) + nonce[8:] + b"\0" + named.encode() + b"\0")
        seq, login = self._numbered(stream)
        secure, first = self.is_unix, 1
        if len(login) == 32:
            assert struct.unpack("<I", login[:4])[0] & SSL and seq == 1
            sock, secure, first = self.context.wrap_socket(sock, server_side=True), True, 2
            self.peers.append(sock)
            stream = Exactly(sock)
            seq, login = self._numbered(stream)
        else:
            self.in_the_clear += login
        with sock:
            exchange = Exchange(self, sock, stream, seq, secure)
            if seq != first:
                exchange.say(OUT_OF_ORDER)
            elif self._authenticate(exchange, login, nonce):
                self.logins += 1
                exchange.say(OK)
                self._commands(sock, stream)
            else:
                exchange.say(DENIED)

    def _authenticate(self, exchange, login, nonce):
        answer = login[33 + login[32:].index(b"\0"):]
        answer = answer[1:1 + answer[0]]
        if self.switch:
            answer = exchange.ask(b"\xfe" + self.method.encode() + b"\0" + nonce + self.end_of_nonce)
        how = {"caching_sha2_password": exchange.caching_sha2, "sha256_password": exchange.sha256, "mysql_clear_password": exchange.clear}
        return how[self.method](answer, nonce)

    @staticmethod
    def _numbered(stream):
        head = stream.read(4)
        return head[3], stream.read(int.from_bytes(head[:3], "little"))


class Exchange:
    """The packets of one login behind the client's first, each with its number."""

    def __init__(self, server, sock, stream, seq, secure):
        self.server, self.sock, self.stream, self.seq, self.secure = server, sock, stream, seq, secure

    def say(self, payload):
        self.seq += 1
        self.server._send(self.sock, self.seq, payload)

    def ask(self, payload):
        self.say(payload)
        seq, answer = self.server._numbered(self.stream)
        self.seq += 1
        if not self.secure:
            self.server.in_the_clear += answer
        if seq != self.seq:
            self.say(OUT_OF_ORDER)
            raise EOFError
        return answer

    def decrypt(self, answer, nonce):
        oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
        return xor(_key().decrypt(answer, oaep), nonce)

    def by_key(self, nonce):
        key = _key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return self.decrypt(self.ask(MORE + key), nonce)

    def caching_sha2(self, answer, nonce):
        hashed = sha256(PASSWORD.encode())
        if self.server.cached and answer == xor(hashed, sha256(sha256(hashed), nonce)):
            self.say(FAST)
            return True
        answer = self.ask(FULL)
        if not self.secure:
            answer = self.by_key(nonce) if answer == REQUEST_KEY else b"not encrypted"
        return answer == PASSWORD.encode() + b"\0"

    def sha256(self, answer, nonce):
        if not self.secure:
            answer = self.by_key(nonce) if answer == MORE else b"not encrypted"
        return answer == PASSWORD.encode() + b"\0"

    def clear(self, answer, _nonce):
        return answer == PASSWORD.encode() + b"\0"

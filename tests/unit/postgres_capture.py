#!/usr/bin/python3
"""
Records conversations between real clients and a real PostgreSQL, message by
message in the order in which they passed, as the transcripts of
test_postgres.c:

    postgres_capture.py PORT > postgres_transcripts.h

PORT: a server on loopback that trusts user postgres, with wal_level=logical
and a role scram (password "pw") that has to log in by scram-sha-256. Needs
psql, pg_receivewal, pg_recvlogical and the Python drivers asyncpg, psycopg
and psycopg2.
"""

import asyncio
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from pgwire import BIND, DESCRIBE, EXECUTE, FLUSH, SYNC, Raw, execute, message, parse, query  # noqa: E402

BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
SERVER = ("127.0.0.1", int(sys.argv[1]))
UNTYPED = {80877103, 80877104}


class Recorder:
    """One connection through a relay that writes down each message as it passes."""

    def __init__(self):
        self.steps = []     # (side, bytes)
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        client, _ = self.listener.accept()
        self.listener.close()
        server = socket.create_connection(SERVER)
        for s in (client, server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.untyped = True
        self.threads = [threading.Thread(target=self.pump, args=a, daemon=True)
                        for a in (("CLIENT", client, server), ("BACKEND", server, client))]
        for t in self.threads:
            t.start()

    def whole(self, side, buf):
        """The length of the message at the front of buf; 0: not whole yet."""
        if side == "BACKEND" and self.untyped:
            return len(buf[:1])
        at = 0 if self.untyped else 1
        if len(buf) < at + 4:
            return 0
        n = at + struct.unpack(">I", buf[at:at + 4])[0]
        return n if len(buf) >= n else 0

    def pump(self, side, source, sink):
        buf = b""
        while True:
            try:
                got = source.recv(65536)
            except OSError:
                got = b""
            if not got:
                break
            buf += got
            while (n := self.whole(side, buf)) > 0:
                message, buf = buf[:n], buf[n:]
                with self.lock:
                    if side == "CLIENT" and self.untyped:
                        self.untyped = struct.unpack(">I", message[4:8])[0] in UNTYPED
                    self.steps.append((side, message))
                    try:
                        sink.sendall(message)
                    except OSError:
                        pass
        with self.lock:
            self.steps.append((side, None))
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def done(self):
        for t in self.threads:
            t.join(5)
        return self.steps


def libpq(port, user="postgres", **more):
    more = {"sslmode": "disable", "gssencmode": "disable", **more}
    return f"host=127.0.0.1 port={port} user={user} dbname=postgres " + " ".join(
        f"{k}={v}" for k, v in more.items())


def transaction(port):
    c = Raw(port, database="postgres")
    c.until(b"Z")
    for sql in ("begin", "select 1", "bogus", "rollback", ""):
        c.send(query(sql))
        c.until(b"Z")
    c.close()


def batches(port):
    """Unsynced and synced batches, a failed one, several in flight, a portal that is suspended."""
    c = Raw(port, database="postgres")
    c.until(b"Z")
    c.send(parse("select generate_series(1,3)"), BIND, DESCRIBE, execute(rows=2), FLUSH)
    c.until(b"s")
    c.send(EXECUTE, SYNC)
    c.until(b"Z")
    c.send(parse("bogus"), BIND, EXECUTE, SYNC, parse("select 2"), BIND, EXECUTE, SYNC, SYNC, query("select 3"))
    for _ in range(4):
        c.until(b"Z")
    c.close()


def copy_extended(port):
    """libpq's way: a Sync behind Execute that the copy eats; then one that fails, and a query copy."""
    c = Raw(port, database="postgres")
    c.until(b"Z")
    c.send(query("create temp table q(a int)"))
    c.until(b"Z")
    c.send(parse("copy q from stdin"), BIND, EXECUTE, SYNC)
    c.until(b"G")
    c.send(message(b"d", b"1\n"), message(b"c"), SYNC)
    c.until(b"Z")
    c.send(query("copy q from stdin"))
    c.until(b"G")
    c.send(message(b"d", b"2\n"), message(b"f", b"no\0"))
    c.until(b"Z")
    c.send(query("copy q from stdin; select 1"), message(b"d", b"3\n"), message(b"c"), query("copy q to stdout"))
    c.until(b"Z")
    c.until(b"Z")
    c.close()


def copy_failed(port):
    """Rows that the server refuses while the Sync behind Execute may or may not have been read."""
    c = Raw(port, database="postgres")
    c.until(b"Z")
    c.send(query("create temp table q(a int)"))
    c.until(b"Z")
    c.send(parse("copy q from stdin"), BIND, EXECUTE, SYNC)
    c.until(b"G")
    c.send(message(b"d", b"x\n"), message(b"c"), SYNC)
    c.until(b"Z")
    c.send(query("select 1"))
    c.until(b"Z")
    c.close()


def notifications(port):
    c = Raw(port, database="postgres")
    c.until(b"Z")
    c.send(query("listen ch"))
    c.until(b"Z")
    other = Raw(SERVER[1], database="postgres")
    other.until(b"Z")
    other.send(query("notify ch, 'hello'"))
    c.until(b"A")
    other.close()
    c.send(query("set client_encoding to latin1; notify ch, 'self'; do $$ begin raise notice 'n'; end $$"))
    c.until(b"Z")
    c.close()


def function_call(port):
    c = Raw(port, version=196608 + 99, database="postgres", **{"_pq_.unknown": "1"})
    c.until(b"Z")
    oid = 1397  # abs(int4)
    c.send(message(b"F", struct.pack(">IHHHI", oid, 1, 1, 1, 4) + struct.pack(">i", -5) + b"\0\1"))
    c.until(b"Z")
    c.close()


def cursor(port):
    import psycopg2
    c = psycopg2.connect(libpq(port))
    k = c.cursor(name="k")
    k.itersize = 2
    k.execute("select generate_series(1, 3)")
    assert len(list(k)) == 3
    c.close()


def pipeline(port):
    import psycopg
    c = psycopg.connect(libpq(port), autocommit=True)
    with c.pipeline() as p:
        for i in range(4):
            c.execute("select %s::int", (i,))
            if i == 1:
                p.sync()
    c.close()


def early_copy(port):
    """asyncpg sends its rows and CopyDone before CopyInResponse; then a COPY OUT."""
    async def go():
        import asyncpg
        import io
        c = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database="postgres", ssl=False)
        await c.execute("create temp table q(a int)")
        await c.copy_records_to_table("q", records=[(1,), (2,)])
        out = io.BytesIO()
        await c.copy_from_query("select a from q", output=out)
        assert out.getvalue() == b"1\n2\n"
        await c.close()
    asyncio.run(go())


def psql(port, user="postgres", password="", sql="select 1", **more):
    subprocess.run(["psql", "-X", libpq(port, user, **more), "-c", sql], stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, env={**os.environ, "PGPASSWORD": password}, timeout=20)


def scram(port):
    psql(port, user="scram", password="pw")


def wrong_password(port):
    psql(port, user="scram", password="wrong")


def refused_encryption(port):
    psql(port, sslmode="prefer")


def run_through(other, *command):
    """A replication client that sees a change pass and reports before and after."""
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    other.send(query("insert into captured values (2)"))
    other.until(b"Z")
    time.sleep(2)
    p.terminate()
    p.wait(10)
    other.send(query("drop table captured"))
    other.until(b"Z")


def standby(port):
    """It starts at the segment's beginning: a fresh one keeps the recording short."""
    c = Raw(SERVER[1], database="postgres")
    c.until(b"Z")
    for sql in ("create table captured(a int)", "checkpoint", "select pg_switch_wal()"):
        c.send(query(sql))
        c.until(b"Z")
    with tempfile.TemporaryDirectory() as d:
        run_through(c, BIN / "pg_receivewal", "-d", libpq(port), "-D", d, "--no-sync", "-s", "1")
    c.close()


def logical(port):
    c = Raw(SERVER[1], database="postgres")
    c.until(b"Z")
    for sql in ("create table captured(a int)",
                "select pg_create_logical_replication_slot('capture', 'test_decoding')"):
        c.send(query(sql))
        c.until(b"Z")
    run_through(c, BIN / "pg_recvlogical", "-d", libpq(port), "--slot=capture", "--start", "-f", "/dev/null", "-s", "1")
    c.send(query("select pg_drop_replication_slot('capture')"))
    c.until(b"Z")
    c.close()


def literal(data):
    out, line, lines = "", "", []
    for i, b in enumerate(data):
        text = chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}"
        line += text
        if len(line) > 88 or i + 1 == len(data):
            lines.append(f'"{line}"')
            line = ""
    return "\n\t    ".join(lines)


def main():
    print("/*\n * postgres_transcripts.h - conversations of real clients with PostgreSQL 15, recorded\n"
          " * by postgres_capture.py. Not edited by hand.\n */")
    for record in (transaction, batches, copy_extended, copy_failed, notifications, function_call, cursor,
                   pipeline, early_copy, scram, wrong_password, refused_encryption, standby, logical):
        r = Recorder()
        record(r.port)
        print(f"\nstatic const struct step {record.__name__}[] = {{")
        for side, data in r.done():
            print(f"\tFIN({side})," if data is None else f"\tSTEP({side}, {literal(data)}),")
        print("};")


main()

#!/usr/bin/python3
"""
record.py - writes transcripts_redis.h and transcripts_mysql.h: conversations of
real clients with real servers, message by message, for the codecs' tests.

    tests/unit/record.py redis|mysql

Needs redis-server, mariadb-server, python3-pymysql, python3-mysqldb, the
mariadb client programs, and tests/e2e/node_modules. Starts its own servers on
loopback, in a directory that it removes. Run it again only for a conversation
that is missing: the salts and times in the present ones are as good as any.
"""

import contextlib
import pathlib
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
NODE_MODULES = HERE.parent / "e2e" / "node_modules"


# --- where a message ends ---

def resp_end(b, i=0):
    """The index behind the RESP value (or inline command) that starts at i; -1: not all of it is there."""
    j = b.find(b"\r\n", i)
    if j < 0:
        return -1
    kind, text = b[i:i + 1], b[i + 1:j]
    if kind in (b"$", b"=", b"!") and int(text) >= 0:
        end = j + 2 + int(text) + 2
        return end if len(b) >= end else -1
    if kind and kind in b"*~>%|":
        k = j + 2
        for _ in range(max(int(text), 0) * (2 if kind in b"%|" else 1) + (kind == b"|")):
            k = resp_end(b, k)
            if k < 0:
                return -1
        return k
    return j + 2


def redis_end(b):
    if b[:1] == b"\n":  # a replica's sign of life
        return 1
    return resp_end(b) if b else -1


def mysql_end(b):
    end = 4 + int.from_bytes(b[:3], "little")
    return end if len(b) >= 4 and len(b) >= end else -1


class Recorder:
    """Relays connections to a port, one after the other, and notes each message of the first."""

    def __init__(self, port, end):
        self.steps, self.end, self.lock = [], end, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.backend_port = port
        self.done = threading.Event()
        self.raw = False
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        first = True
        while True:
            with contextlib.suppress(OSError):
                client, _ = self.listener.accept()
                backend = socket.create_connection(("127.0.0.1", self.backend_port))
                for s in (client, backend):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                note, first = first, False
                for names in (("CLIENT", client, backend), ("BACKEND", backend, client)):
                    threading.Thread(target=self.pump, args=(*names, note), daemon=True).start()
                continue
            return

    def pump(self, name, source, to, note):
        held = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                held += data
                while held:
                    n = len(held) if self.raw else self.end(held)
                    if n < 0:
                        break
                    if note:
                        with self.lock:
                            self.steps.append((name, held[:n]))
                    to.sendall(held[:n])
                    held = held[n:]
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)
        if note:
            with self.lock:
                self.steps.append((name, None))
            self.done.set()

    def finish(self):
        self.done.wait(2)
        time.sleep(0.1)
        self.listener.close()
        return self.steps


# --- C ---

def c_text(data):
    lines = [""]
    for b in data:
        c = chr(b)
        text = {'"': '\\"', "\\": "\\\\", "\r": "\\r", "\n": "\\n", "?": "\\?"}.get(c) or (
            c if 32 <= b < 127 else f"\\{b:03o}")
        if len(lines[-1]) + len(text) > 84:
            lines.append("")
        lines[-1] += text
    return '"' + '"\n\t    "'.join(lines) + '"'


def merged(steps):
    """Small messages of one side behind each other make one step; long runs of rows need no step each."""
    out = []
    for name, data in steps:
        if data is not None and out and out[-1][0] == name and out[-1][1] is not None \
                and len(out[-1][1]) + len(data) < 48:
            out[-1] = (name, out[-1][1] + data)
        else:
            out.append((name, data))
    return out


def write_header(protocol, server, conversations):
    guard = f"STENT_TESTS_TRANSCRIPTS_{protocol.upper()}_H"
    with open(HERE / f"transcripts_{protocol}.h", "w", encoding="ascii") as f:
        f.write(f"/*\n * transcripts_{protocol}.h - conversations with {server}, written by record.py.\n */\n"
                f"#ifndef {guard}\n#define {guard}\n\n#include \"codec_harness.h\"\n")
        for name, about, steps in conversations:
            f.write(f"\n/* {about} */\nstatic const struct step {name}[] = {{\n")
            for side, data in merged(steps):
                f.write(f"\tFIN({side}),\n" if data is None else f"\tSTEP({side}, {c_text(data)}),\n")
            f.write("};\n")
        f.write("\n#endif\n")
    for name, _, steps in conversations:
        print(f"{name}: {len(steps)} messages, {sum(len(d or b'') for _, d in steps)} bytes")


def wait_port(port, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@contextlib.contextmanager
def server(command, port):
    with open("/dev/null", "wb") as null:
        process = subprocess.Popen(command, stdout=null, stderr=null)
    try:
        wait_port(port)
        yield
    finally:
        process.terminate()
        process.wait(30)


def run(*command, **more):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, check=False, **more)


def node(script):
    result = run("node", "-e", script, cwd=NODE_MODULES.parent)
    assert result.returncode == 0, result.stderr


# --- redis ---

def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(str(w)), str(w).encode()) for w in words)


class Raw:
    """Sends commands and reads whatever comes within a moment."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))

    def send(self, data, wait=0.1):
        self.sock.sendall(data)
        while select.select([self.sock], [], [], wait)[0]:
            if not self.sock.recv(65536):
                return

    def do(self, *words, wait=0.1):
        self.send(command(*words), wait)

    def each(self, *lines):
        for line in lines:
            self.do(*line.split())

    def close(self):
        self.sock.close()


def redis_plain(port, _):
    r = Raw(port)
    r.each("SET key value", "GET key", "GET none", "INCR n", "BOGUS", "RPUSH l a b c", "LRANGE l 0 -1", "EVAL return{1,{2,'x'}} 0")
    r.send(b"PING\r\n")
    r.send(b"  echo  hi \r\n\r\nget key\r\n")
    r.send(command("SET", "big", "x" * 300) + command("GET", "big") + b"*0\r\n" + command("DBSIZE"))
    r.each("BLPOP nothing 0.05", "QUIT")
    r.close()


def redis_transactions(port, _):
    r = Raw(port)
    r.each("WATCH k", "MULTI", "SET k 1", "INCR k", "EXEC", "MULTI", "GET k", "DISCARD", "MULTI", "BOGUS", "EXEC", "GET k")
    r.send(b"".join(map(command, ["MULTI"], ["INCR"], ["EXEC"])) + b"".join(command(*c) for c in (["MULTI"], ["INCR", "k"], ["EXEC"])))
    r.each("EXEC", "GET k")
    r.close()


def redis_resp3(port, direct):
    r, other = Raw(port), Raw(direct)
    r.each("HELLO 3", "HSET h a 1 b 2", "HGETALL h", "SADD s x y", "SMEMBERS s", "ZADD z 1.5 m", "ZSCORE z m", "GET none",
           "DEBUG PROTOCOL attrib", "DEBUG PROTOCOL bignum", "DEBUG PROTOCOL verbatim", "DEBUG PROTOCOL true", "DEBUG PROTOCOL null")
    r.each("SUBSCRIBE one two", "PSUBSCRIBE p*")
    other.each("PUBLISH one hello", "PUBLISH pq hello")
    r.each("GET none", "UNSUBSCRIBE one", "CLIENT TRACKING ON", "GET h2")
    other.each("SET h2 3")
    r.each("PING", "HELLO 2", "GET h2", "RESET", "PING")
    r.close()
    other.close()


def redis_subscriber(port, direct):
    r, other = Raw(port), Raw(direct)
    r.each("GET none", "SUBSCRIBE ch")
    other.each("PUBLISH ch hello")
    r.each("PING", "UNSUBSCRIBE ch", "GET none")
    r.close()
    other.close()


def redis_silence(port, _):
    r = Raw(port)
    r.each("SET k 1", "CLIENT REPLY SKIP", "GET k", "GET k", "client reply off", "GET k", "GET k", "CLIENT REPLY ON", "GET k",
           "CLIENT TRACKING ON OPTIN", "HELLO 3", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES", "CLIENT ID", "GET k", "GET k", "ASKING", "GET k")
    r.close()


def redis_login(port, direct):
    admin = Raw(direct)
    admin.do("CONFIG", "SET", "requirepass", "pw")
    r = Raw(port)
    r.each("GET k", "HELLO 3", "AUTH wrong", "AUTH pw", "GET k", "HELLO 3 AUTH default pw SETNAME me", "GET k")
    r.close()
    admin.do("AUTH", "pw")
    admin.do("CONFIG", "SET", "requirepass", "")
    admin.close()


def redis_monitor(port, direct):
    r, other = Raw(port), Raw(direct)
    r.each("GET k", "MONITOR")
    other.each("SET k 1", "GET k")
    r.each("QUIT")
    r.close()
    other.close()


def redis_replica(port, direct):
    other = Raw(direct)
    r = Raw(port)
    r.each("PING", "REPLCONF listening-port 7777", "REPLCONF capa eof capa psync2")
    recorder_of[port].raw = True
    r.send(command("PSYNC", "\x3f", "-1"), 1)
    other.each("SET k 1")
    r.send(command("REPLCONF", "ACK", "14"), 0.5)
    r.close()
    other.close()


def redis_py(port, _):
    import redis  # pylint: disable=import-outside-toplevel
    c = redis.Redis(port=port)
    c.set("k", "v")
    p = c.pipeline()
    p.set("a", 1)
    p.incr("a")
    p.execute()
    with contextlib.suppress(redis.ResponseError):
        c.incr("k")
    c.close()


def node_redis(port, _):
    node(f"""const {{createClient}} = require('redis'); (async () => {{
        const c = createClient({{url: 'redis://127.0.0.1:{port}', RESP: 3}}); await c.connect();
        await c.set('k', 'v'); await Promise.all([c.get('k'), c.hSet('hh', {{a: 1}}), c.hGetAll('hh')]);
        await c.multi().set('k', 'w').get('k').exec(); await c.close(); }})()""")


recorder_of = {}


def record_redis(directory):
    port = free_port()
    conversations = []
    with server(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "",
                 "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"], port):
        for name, about, talk in (
                ("redis_plain", "RESP2: commands, inline ones, several in one piece, one that blocks", redis_plain),
                ("redis_transactions", "transactions that end well, that are given up, that fail; one in one piece", redis_transactions),
                ("redis_resp3", "every type of RESP3, subscriptions, invalidations, back to RESP2", redis_resp3),
                ("redis_subscriber", "a subscription in RESP2", redis_subscriber),
                ("redis_silence", "CLIENT REPLY, CLIENT CACHING, ASKING", redis_silence),
                ("redis_login", "a server that wants a password", redis_login),
                ("redis_monitor", "MONITOR", redis_monitor),
                ("redis_replica", "a replica", redis_replica),
                ("redis_py", "redis-py", redis_py),
                ("node_redis", "node-redis in RESP3", node_redis)):
            recorder = Recorder(port, redis_end)
            recorder_of[recorder.port] = recorder
            talk(recorder.port, port)
            conversations.append((name, about, recorder.finish()))
    write_header("redis", "redis-server 7.0", conversations)


# --- mysql ---

def packet(payload, seq=0):
    return len(payload).to_bytes(3, "little") + bytes([seq]) + payload


FILE_TEXT = "1\n22\n333\n"


def pymysql_connection(port, **more):
    import pymysql  # pylint: disable=import-outside-toplevel
    return pymysql.connect(host="127.0.0.1", port=port, user="hb", password="pw", database="hb", ssl_disabled=True, **more)


def tried(cursor, *statements):
    for s in statements:
        with contextlib.suppress(Exception):
            cursor.execute(s)
            cursor.fetchall()
            while cursor.nextset():
                cursor.fetchall()


def mysql_pymysql(port, _):
    c = pymysql_connection(port, local_infile=True, autocommit=True)
    k = c.cursor()
    tried(k, "select 1", "insert into t(v) values (1),(2),(3)", "select row_count()", "bogus", "select seq, 'a row' from seq_1_to_5",
          "call two()", "set @a=1", "select repeat('x', 300)")
    c.ping()
    c.select_db("hb")
    c.close()


def mysql_transaction(port, _):
    c = pymysql_connection(port, autocommit=False)
    k = c.cursor()
    tried(k, "select count(*) from t", "insert into t(v) values (9)")
    c.rollback()
    tried(k, "bogus", "select 1")
    c.commit()
    c.close()


def mysql_load_data(port, _):
    path = pathlib.Path(tempfile.gettempdir()) / "stent-record.txt"
    path.write_text(FILE_TEXT, encoding="ascii")
    c = pymysql_connection(port, local_infile=True, autocommit=True)
    k = c.cursor()
    tried(k, f"load data local infile '{path}' into table t(v)", f"execute immediate concat('load data local inf', 'ile ''{path}'' into table t(v)')",
          "select count(*) from t")
    c.close()
    path.unlink()


class RawMysql:
    """Packets of our own, behind PyMySQL's login."""

    def __init__(self, port, **more):
        self.connection = pymysql_connection(port, autocommit=True, **more)
        self.sock = self.connection._sock

    def send(self, payload, seq=0, wait=0.1):
        self.sock.sendall(packet(payload, seq))
        got = b""
        while select.select([self.sock], [], [], wait)[0]:
            piece = self.sock.recv(65536)
            if not piece:
                break
            got += piece
        return got

    def prepare(self, statement):
        return self.send(b"\x16" + statement.encode())[5:9]


def mysql_statements(port, _):
    r = RawMysql(port)
    plain = r.prepare("select 7")
    r.send(b"\x17" + plain + b"\0\1\0\0\0")
    one = r.prepare("select concat(?, '!'), ? + 1")
    r.send(b"\x18" + one + b"\0\0a long ")
    r.send(b"\x18" + one + b"\0\0value")
    r.send(b"\x17" + one + b"\0\1\0\0\0" + b"\0\1\xfc\0\3\0" + struct.pack("<I", 41))
    r.send(b"\x1a" + one)
    cursor = r.prepare("select seq from seq_1_to_5")
    r.send(b"\x17" + cursor + b"\1\1\0\0\0")
    r.send(b"\x1c" + cursor + b"\2\0\0\0")
    r.send(b"\x1c" + cursor + b"\x10\0\0\0")
    r.send(b"\x19" + cursor)
    r.prepare("bogus")
    r.send(b"\x1b\0\0")
    r.send(b"\x09")
    r.send(b"\x04t\0")
    r.send(b"\x0d")
    r.send(b"\x0a")
    r.send(b"\x1f")
    r.send(b"\x03select 1; bogus")
    r.send(b"\x01")
    r.sock.close()


def mysql_multi(port, _):
    r = RawMysql(port, client_flag=0x10000 | 0x20000)
    r.send(b"\x03select 1; set @b=2; select 3 from t where v=77; bogus")
    r.send(b"\x03do 0; do 1")
    r.send(b"\x01")
    r.sock.close()


def mysql_libmariadb(port, _):
    import MySQLdb  # pylint: disable=import-outside-toplevel
    c = MySQLdb.connect(host="127.0.0.1", port=port, user="hb", passwd="pw", db="hb", local_infile=1)
    k = c.cursor()
    tried(k, "select 1", "insert into t(v) values (1)", "bogus", "call two()", "select seq from seq_1_to_4")
    c.commit()
    c.ping()
    c.change_user("hb", "pw", "hb")
    tried(k, "select 2")
    c.close()


def mysql_mysql2(port, _):
    node(f"""const m = require('mysql2/promise'); (async () => {{
        const c = await m.createConnection({{host: '127.0.0.1', port: {port}, user: 'hb', password: 'pw', database: 'hb', multipleStatements: true}});
        await c.execute('select ? as a', [1]); await c.query('select 1; select 2'); await c.query('bogus').catch(() => 0);
        await Promise.all([c.query('select 7'), c.execute('select 8')]); await c.changeUser({{user: 'hb', password: 'pw', database: 'hb'}});
        await c.query('select 3'); await c.end(); }})()""")


def mysql_mariadb_js(port, _):
    node(f"""const m = require('mariadb'); (async () => {{
        const c = await m.createConnection({{host: '127.0.0.1', port: {port}, user: 'hb', password: 'pw', database: 'hb', pipelining: true}});
        await Promise.all([1, 2, 3].map(k => c.execute('select ? as a', [k]))); await c.execute('select ? as a', [5]);
        await c.batch('insert into t(v) values (?)', [[1], [2]]); await c.query('bogus').catch(() => 0); await c.ping(); await c.end(); }})()""")


def mysql_switch(port, _):
    run("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uhb", "-ppw", "--skip-ssl", "--default-auth=mysql_old_password", "-e", "select 1")


def mysql_refused(port, _):
    run("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uhb", "-pwrong", "--skip-ssl", "-e", "select 1")


def mysql_compressed(port, _):
    run("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uhb", "-ppw", "--skip-ssl", "-C", "-e", "select 1")


def mysql_tls(port, _):
    run("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uhb", "-ppw", "--ssl", "-e", "select 1")


def mysql_replica(port, _):
    run("mariadb-binlog", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uroot", "--skip-ssl", "--read-from-remote-server", "binlog.000001")


def until_tls(steps):
    """What comes behind the request for TLS is noise."""
    at = next(i for i, (_, d) in enumerate(steps) if d is not None and d[4:8] and d[5] & 8 and len(d) == 36)
    return [*steps[:at + 1], ("CLIENT", b"\x16\x03\x01\x00\x05hello"), ("BACKEND", b"\x16\x03\x03\x00\x02hi")]


def record_mysql(directory):
    port, data = free_port(), directory + "/data"
    shutil.chown(directory, "mysql")
    run("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--auth-root-authentication-method=normal",
        "--skip-test-db")
    conversations = []
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t", "-keyout", directory + "/key", "-out", directory + "/cert")
    shutil.chown(directory + "/key", "mysql")
    with server(["mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
                 f"--socket={directory}/s", "--local-infile=1", "--log-bin=binlog", "--server-id=1",
                 f"--ssl-key={directory}/key", f"--ssl-cert={directory}/cert"], port):
        setup = "".join(s + ";\n" for s in (
            "create database hb", "create user hb@localhost identified by 'pw'", "create user hb@127.0.0.1 identified by 'pw'",
            "grant all on hb.* to hb@localhost", "grant all on hb.* to hb@127.0.0.1",
            "create table hb.t(id int auto_increment primary key, v int) engine=innodb"))
        setup += "delimiter //\ncreate procedure hb.two() begin select 1; select 2 union select 3; end//\n"
        result = run("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uroot", input=setup)
        assert result.returncode == 0, result.stderr
        for name, about, talk in (
                ("mysql_pymysql", "PyMySQL: results that end with EOF", mysql_pymysql),
                ("mysql_transaction", "PyMySQL without autocommit", mysql_transaction),
                ("mysql_load_data", "LOAD DATA LOCAL, plain and made up by the server", mysql_load_data),
                ("mysql_statements", "prepared statements, long data, a cursor, the rarer commands", mysql_statements),
                ("mysql_multi", "several statements in one", mysql_multi),
                ("mysql_libmariadb", "libmariadb: results that end with OK; a change of user", mysql_libmariadb),
                ("mysql_mysql2", "mysql2 of node: statements, pipelining, a change of user", mysql_mysql2),
                ("mysql_mariadb_js", "mariadb of node: pipelined statements, column definitions left out, bulk", mysql_mariadb_js),
                ("mysql_switch", "a login with another plugin than the server's", mysql_switch),
                ("mysql_refused", "a login that is refused", mysql_refused),
                ("mysql_compressed", "compression", mysql_compressed),
                ("mysql_tls", "TLS", mysql_tls),
                ("mysql_replica", "a replica's way of reading", mysql_replica)):
            recorder = Recorder(port, mysql_end)
            recorder.raw = talk in (mysql_tls, mysql_compressed)
            talk(recorder.port, port)
            steps = recorder.finish()
            conversations.append((name, about, until_tls(steps) if talk is mysql_tls else steps))
    write_header("mysql", "MariaDB 10.11", conversations)


def main():
    what = {"redis": record_redis, "mysql": record_mysql}.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if what is None:
        sys.exit(__doc__.strip())
    directory = tempfile.mkdtemp(prefix="stent-record-")
    try:
        what(directory)
    finally:
        shutil.rmtree(directory)


main()

"""
A real PostgreSQL, a PgBouncer and a Pgpool-II, for the tests: in a folder of their own,
on loopback, run by user postgres (PostgreSQL refuses root), stopped when done.
"""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

import harness
import psycopg2

BIN = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
OWNER = "postgres"

SETTINGS = {
    "unix_socket_directories": "", "fsync": "off", "shared_buffers": "32MB",
    "wal_level": "logical", "max_wal_senders": "10", "max_connections": "50", "log_min_messages": "warning",
}


def tool(name):
    return str(BIN / name) if (BIN / name).exists() else name


class Owned:
    """A folder under /tmp and a program in it, both of user postgres."""

    def __init__(self, name):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"stent-{name}-"))
        self.log_path = self.directory / "log"
        self.process = None
        self.host = harness.HOST
        self.lab = None		# it runs on host "backend" of that network
        self.user = {}
        if os.getuid() == 0:
            owner = pwd.getpwnam(OWNER)
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            self.user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def run(self, *command):
        subprocess.run([str(word) for word in command], check=True, cwd=self.directory, timeout=60 * harness.SLOW,
                       stdout=subprocess.DEVNULL, **self.user)

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        if self.user:
            os.chown(path, self.user["user"], self.user["group"])
        path.chmod(0o600)
        return path

    def readable(self, value):
        """A setting; of a file, a copy that the program may read."""
        return self.write(value.name, value.read_text()) if isinstance(value, pathlib.Path) else value

    def spawn(self, *command):
        user = self.user
        if self.lab:		# only root may enter it
            command = (*self.lab.inside("backend"), "setpriv", "--reuid", OWNER, "--regid", OWNER, "--init-groups", *command)
            user = {}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(word) for word in command], cwd=self.directory,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user)

    def connect(self, **more):
        """A connection past stent."""
        def make():
            return psycopg2.connect(self.dsn(**more))
        return self.lab.call("backend", make) if self.lab else make()

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                self.connect().close()
                return True
            except psycopg2.OperationalError:
                return False
        harness.wait_for(ready, 30, f"{self.directory.name} to answer")

    def dsn(self, port=None, **more):
        """As libpq takes it. Without TLS unless told otherwise: a codec sees nothing inside of it."""
        words = {"host": self.host, "port": port or self.port, "user": OWNER, "dbname": "postgres",
                 "sslmode": "disable", "gssencmode": "disable", "connect_timeout": 10, **more}
        return " ".join(f"{key}={value}" for key, value in words.items())

    def close(self, how=signal.SIGINT):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(20)
        shutil.rmtree(self.directory, ignore_errors=True)


class Postgres(Owned):
    """A server that trusts everybody but the roles scram, md5 and clear, who have the password "pw"."""

    def __init__(self, backup_through=None, lab=None, **settings):
        """
        backup_through: a standby of the server behind that port, which it also follows through it.
        lab: it runs on host "backend" of that network, and trusts everybody there.
        """
        super().__init__("postgres")
        self.port = harness.free_port()
        if lab:
            self.lab, self.host = lab, lab.address["backend"]
        self.data = self.directory / "data"
        if backup_through:
            self.run(tool("pg_basebackup"), "-d", self.dsn(backup_through, application_name="standby"), "-D", self.data,
                     "-c", "fast", "-X", "stream", "-R", "--no-sync")
        else:
            self.run(tool("initdb"), "-D", self.data, "-A", "trust", "-U", OWNER, "--no-sync", "-E", "UTF8",
                     "--locale=C")
        if lab:
            with open(self.data / "pg_hba.conf", "a") as hba:
                hba.write("host all all 10.0.0.0/8 trust\n")
        options = [word for key, value in {**SETTINGS, "port": self.port, "listen_addresses": self.host, **settings}.items()
                   for word in ("-c", f"{key}={value}")]
        self.spawn(tool("postgres"), "-D", self.data, *options)
        self.wait_ready()
        if not backup_through:
            self._make_roles()

    def _make_roles(self):
        for role, method in (("scram", "scram-sha-256"), ("md5", "md5"), ("clear", "scram-sha-256")):
            self.sql(f"set password_encryption = '{method}'", f"create role {role} login superuser password 'pw'")
        hba = self.data / "pg_hba.conf"
        hba.write_text("host all scram 127.0.0.1/32 scram-sha-256\nhost all md5 127.0.0.1/32 md5\n"
                       "host all clear 127.0.0.1/32 password\n" + hba.read_text())
        self.sql("select pg_reload_conf()")

    def sql(self, *statements, dbname="postgres"):
        """Runs statements on a connection of its own, past stent; the rows of the last one."""
        connection = self.connect(dbname=dbname)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def value(self, statement, dbname="postgres"):
        return self.sql(statement, dbname=dbname)[0][0]

    def use_tls(self):
        """TLS with a certificate of its own, for whoever wants it."""
        self.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                 "-keyout", self.data / "server.key", "-out", self.data / "server.crt")
        (self.data / "server.key").chmod(0o600)
        self.sql("alter system set ssl = on", "select pg_reload_conf()")
        harness.wait_for(lambda: self.value("show ssl") == "on", what="TLS")


    def use_certificate(self, pair, ca):
        """
        TLS with that certificate, and a role `app` (password pw) that gets in by TLS and SCRAM only; into
        database `certified` by a certificate of that authority.
        """
        for path, name in ((pair.cert, "server.crt"), (pair.key, "server.key")):
            (self.data / name).unlink(missing_ok=True)
            self.write(f"data/{name}", path.read_text())
        hba = self.data / "pg_hba.conf"
        if "hostssl all app" not in hba.read_text():
            self.write("data/ca.crt", ca.read_text())
            hba.write_text("hostssl certified app all cert\nhostssl all app all scram-sha-256\nhostnossl all app all reject\n" + hba.read_text())
            self.sql("set password_encryption = 'scram-sha-256'", "create role app login superuser password 'pw'",
                     "create database certified", "alter system set ssl_ca_file = 'ca.crt'")
        self.sql("alter system set ssl = on", "select pg_reload_conf()")
        harness.wait_for(lambda: self.value("show ssl") == "on", what="TLS")


class PgBouncer(Owned):
    """In front of the server behind a port: one connection to it for all clients, lent a transaction at a time."""

    def __init__(self, port, **keys):
        super().__init__("pgbouncer")
        more = "".join(f"{key} = {self.readable(value)}\n" for key, value in keys.items())
        self.port = harness.free_port()
        users = self.write("users", f'"{OWNER}" ""\n')
        ini = self.write("ini", f"""
[databases]
postgres = host={harness.HOST} port={port} user={OWNER}
[pgbouncer]
listen_addr = {harness.HOST}
listen_port = {self.port}
unix_socket_dir =
auth_type = any
auth_file = {users}
pool_mode = transaction
default_pool_size = 1
query_wait_timeout = 1
{more}""")
        self.spawn("pgbouncer", ini)
        self.wait_ready()

    def close(self):
        super().close(signal.SIGTERM)


class PgPool(Owned):
    """A Pgpool-II in front of the server behind a port: each of its processes has one client and keeps a connection for it."""

    def __init__(self, port, **keys):
        super().__init__("pgpool")
        more = {key: self.readable(value) for key, value in keys.items()}
        self.port = harness.free_port()
        keys = {"listen_addresses": harness.HOST, "port": self.port, "socket_dir": self.directory, "pcp_socket_dir": self.directory,
                "pcp_listen_addresses": harness.HOST, "pcp_port": harness.free_port(), "backend_hostname0": harness.HOST,
                "backend_port0": port, "backend_clustering_mode": "raw", "num_init_children": 4, "max_pool": 1,
                "connection_cache": "on", "sr_check_period": 0, "health_check_period": 0, "memory_cache_enabled": "off",
                "pid_file_name": self.directory / "pid", "logdir": self.directory, "work_dir": self.directory, **more}
        conf = self.write("pgpool.conf", "".join(f"{key} = '{value}'\n" for key, value in keys.items()))
        others = [self.write(name, "") for name in ("pcp.conf", "pool_hba.conf")]
        self.write("pool_passwd", "")
        self.spawn(shutil.which("pgpool") or "/usr/sbin/pgpool", "-n", "-f", conf, "-F", others[0], "-a", others[1])
        self.wait_ready()


def dump_of(text):
    """A dump without what differs each time."""
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", text)

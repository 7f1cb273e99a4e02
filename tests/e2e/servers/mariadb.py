"""A real MariaDB for the tests: in a folder of its own, on loopback, run by user mysql, stopped when done."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import harness
import pymysql

OWNER = "mysql"
USER, PASSWORD, DATABASE = "hb", "pw", "hb"

SETUP = (
    f"create database {DATABASE}",
    *(f"create user {USER}@'{host}' identified by '{PASSWORD}'" for host in ("localhost", "127.0.0.1")),
    *(f"grant all on *.* to {USER}@'{host}'" for host in ("localhost", "127.0.0.1")),
    f"create table {DATABASE}.t(id int auto_increment primary key, v int) engine=innodb",
    f"create table {DATABASE}.l(a varchar(200)) engine=innodb",
    f"create procedure {DATABASE}.two() begin select 1; select 2 union select 3; end",
)


class Mariadb:
    def __init__(self, *options, certificate=None):
        """certificate: a pair of certificates.py; else one is made for this server."""
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stent-mariadb-"))
        self.port = harness.free_port()
        self.socket = self.directory / "socket"
        # At its start each removes what others' temporary tables look like, in the folder for those.
        self.env = {**os.environ, "TMPDIR": str(self.directory)}
        self.as_user = []
        if os.getuid() == 0:
            owner = pwd.getpwnam(OWNER)
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            self.as_user = [f"--user={OWNER}"]
        self._install()
        self._make_certificate(certificate)
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["mariadbd", "--no-defaults", *self.as_user, f"--datadir={self.directory}/data", f"--port={self.port}",
                 f"--bind-address={harness.HOST}", f"--socket={self.socket}", "--skip-name-resolve", "--local-infile=1",
                 "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--max-connections=100", "--max-allowed-packet=64M",
                 "--log-bin=binlog", "--server-id=1", f"--ssl-key={self.directory}/key",
                 f"--ssl-cert={self.directory}/cert", *map(str, options)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        harness.wait_for(self._ready, 60, "mariadbd to answer")
        self.sql(*SETUP)

    def _install(self):
        subprocess.run(["mariadb-install-db", "--no-defaults", *self.as_user, f"--datadir={self.directory}/data",
                        "--auth-root-authentication-method=normal", "--skip-test-db"],
                       check=True, timeout=120 * harness.SLOW, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.env)

    def _make_certificate(self, pair):
        key, cert = self.directory / "key", self.directory / "cert"
        if pair:
            shutil.copy(pair.key, key)
            shutil.copy(pair.cert, cert)
        else:
            self._sign_own(key, cert)
        if self.as_user:
            shutil.chown(key, OWNER)

    @staticmethod
    def _sign_own(key, cert):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-keyout", key, "-out", cert], check=True, timeout=60, stderr=subprocess.DEVNULL)

    def _ready(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            self.connect("root", "", database=None).close()
            return True
        except pymysql.OperationalError:
            return False

    def connect(self, user=USER, password=PASSWORD, port=None, **more):
        """A session without TLS, in which a codec would see nothing; through stent where its port is given."""
        more = {"database": DATABASE, "autocommit": True, "ssl_disabled": True, "connect_timeout": 10, **more}
        return pymysql.connect(host=harness.HOST, port=port or self.port, user=user, password=password, **more)

    def sql(self, *statements):
        """Statements on a session of root's own, past stent; the rows of the last one."""
        session = self.connect("root", "", database=None)
        try:
            with session.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall()
        finally:
            session.close()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

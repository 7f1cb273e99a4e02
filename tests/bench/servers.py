"""PostgreSQL and Redis with data folders of their own, and the benchmark programs that come with them."""
import csv
import glob
import os
import re
import shutil
import signal
import subprocess
import time

from relays import BenchError, LOAD_CORE, is_listening, pin

START_TIMEOUT_S = 30
RUN_TIMEOUT_S = 60


class Server:
    """Started on first use; stop() ends it."""

    def __init__(self, work, port):
        self.work, self.port = work, port
        self.process = None

    def launch(self, argv, **how):
        log = os.path.join(self.work, self.__class__.__name__ + ".log")
        with open(log, "w") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            preexec_fn=pin(LOAD_CORE), **how)
        end = time.monotonic() + START_TIMEOUT_S
        while not is_listening(self.port):
            if self.process.poll() is not None or time.monotonic() > end:
                with open(log) as f:
                    raise BenchError("%s did not start:\n%s" % (argv[0], f.read()))
            time.sleep(0.05)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def call(argv, **how):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=RUN_TIMEOUT_S, preexec_fn=pin(LOAD_CORE), **how)
    if done.returncode != 0:
        raise BenchError("%s\n%s%s" % (" ".join(argv), done.stdout, done.stderr))
    return done.stdout


def need(program, folders=()):
    path = shutil.which(program, path=os.pathsep.join([*folders, os.environ["PATH"]]))
    if path is None:
        raise BenchError("%s is not installed" % program)
    return path


class Postgres(Server):
    def start(self):
        folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
        # initdb and postgres refuse to be root
        self.how = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        home = os.path.join(self.work, "postgres")
        os.mkdir(home)
        if self.how:
            os.chmod(self.work, 0o755)
            shutil.chown(home, "postgres", "postgres")
        data = os.path.join(home, "data")
        call([need("initdb", folders), "-D", data, "-A", "trust", "-U", "bench", "--no-sync", "-E", "UTF8",
              "--locale=C"], cwd="/", **self.how)
        self.launch([need("postgres", folders), "-D", data, "-p", str(self.port), "-k", home, "-h", "127.0.0.1",
                     "-c", "fsync=off", "-c", "shared_buffers=64MB", "-c", "autovacuum=off"], cwd="/", **self.how)
        self.pgbench = need("pgbench", folders)
        self.env = dict(os.environ, PGUSER="bench", PGDATABASE="postgres", PGHOST="127.0.0.1",
                        PGGSSENCMODE="disable", PGSSLMODE="disable")
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                call([self.pgbench, "-i", "-q", "-s", "2", "-p", str(self.port)], env=self.env)
                return
            except BenchError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def bench(self, port, quick):
        per_client = 600 if quick else 4000
        began = time.monotonic()
        out = call([self.pgbench, "-S", "-n", "-c", "8", "-j", "1", "-t", str(per_client), "-p", str(port)],
                   env=self.env)
        seconds = time.monotonic() - began
        done = int(re.search(r"actually processed: (\d+)", out).group(1))
        return {"units": done, "seconds": seconds, "rate": float(re.search(r"tps = ([\d.]+)", out).group(1)),
                "p50_us": 1e3 * float(re.search(r"latency average = ([\d.]+) ms", out).group(1))}


class Redis(Server):
    def start(self):
        home = os.path.join(self.work, "redis")
        os.mkdir(home)
        self.launch([need("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", home,
                     "--save", "", "--appendonly", "no", "--daemonize", "no"])
        self.benchmark = need("redis-benchmark")

    def bench(self, port, quick):
        count = 100000 if quick else 600000
        began = time.monotonic()
        out = call([self.benchmark, "-h", "127.0.0.1", "-p", str(port), "-P", "16", "-n", str(count), "-c", "50",
                    "-t", "set,get", "--csv"])
        seconds = time.monotonic() - began
        rows = list(csv.DictReader(out.splitlines()))
        if len(rows) != 2:
            raise BenchError("redis-benchmark said:\n" + out)

        def mean(column):
            return sum(float(row[column]) for row in rows) / len(rows)
        return {"units": 2 * count, "seconds": seconds, "rate": mean("rps"),
                "p50_us": 1e3 * mean("p50_latency_ms"), "p99_us": 1e3 * mean("p99_latency_ms")}

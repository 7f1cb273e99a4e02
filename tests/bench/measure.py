"""The load programs, and what is read about a relay from outside: its CPU time and its memory."""
import contextlib
import json
import os
import select
import subprocess

from relays import BenchError, LOAD_CORE, pin

LOAD_TIMEOUT_S = 120
SOURCES = ("load.c", "load_net.c", "load_tls.c", "load_measure.c", "load_ws.c", "load_rtt.c", "load_bulk.c", "load_idle.c")
CFLAGS = ("-O2 -g -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes "
          "-Wmissing-prototypes -Wvla -Wno-sign-conversion -Werror").split()


def build(work):
    """Compiles the floor and the load into the work folder."""
    here = os.path.dirname(os.path.abspath(__file__))
    cc = os.environ.get("CC", "cc")
    for name, sources in (("floor", ("floor.c",)), ("load", SOURCES)):
        argv = [cc, *CFLAGS, "-o", os.path.join(work, name), *(os.path.join(here, s) for s in sources),
                *(("-lssl", "-lcrypto") if name == "load" else ())]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError("%s cannot be built:\n%s" % (name, done.stderr))


def certificate(work):
    """A file with a self-signed certificate of 127.0.0.1 and its key (ECDSA P-256)."""
    pem = os.path.join(work, "tls.pem")
    if not os.path.exists(pem):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                        "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pem + ".key",
                        "-out", pem + ".crt"], check=True, capture_output=True)
        with open(pem, "w") as out:
            for part in (".crt", ".key"):
                with open(pem + part) as text:
                    out.write(text.read())
        os.chmod(pem, 0o644)
    return pem


def cpu_us(pids):
    """CPU time of all threads of these processes. Exact once they are at rest."""
    total = 0
    for pid in pids:
        for thread in os.listdir("/proc/%d/task" % pid):
            with contextlib.suppress(FileNotFoundError):
                with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as f:
                    total += int(f.read().split()[0])
    return total / 1e3


def private_bytes(pids):
    """Memory that is these processes' alone."""
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as lines:
            total += sum(int(line.split()[1]) for line in lines
                         if line.startswith(("Private_Clean:", "Private_Dirty:")))
    return total * 1024


def slab_bytes():
    """Memory that the kernel has in its objects: sockets, their files, what epoll keeps of them."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:"))


class Held:
    """Flows that stand. restart() sets the count of pings they answered to 0; at the end `rate` is how many a second."""

    def __init__(self, process, flows):
        self.process, self.flows, self.rate = process, flows, 0

    def restart(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        out, errors = self.process.communicate(timeout=LOAD_TIMEOUT_S)
        if self.process.returncode != 0:
            raise BenchError("flows did not stand: " + errors.strip())
        figures = json.loads(out)
        self.rate = figures["answered"] / figures["seconds"]


class Load:
    """The load program for one pair of ports."""

    def __init__(self, work, mode, listen, backend, pids, *words):
        self.argv = [os.path.join(work, "load"), mode, "--relay", str(listen), "--backend", str(backend),
                     "--pids", ",".join(map(str, pids)), *map(str, words)]

    def run(self, first=False):
        """Runs to its end; returns its figures. first: before the other load on its core."""
        done = subprocess.run(self.argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=LOAD_TIMEOUT_S, preexec_fn=pin(LOAD_CORE, first))
        if done.returncode != 0:
            raise BenchError("%s\n%s" % (" ".join(self.argv), done.stderr.strip()))
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def holding(self):
        """For the mode idle: inside the `with` all flows stand."""
        process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, preexec_fn=pin(LOAD_CORE))
        try:
            ready, _, _ = select.select([process.stdout], [], [], LOAD_TIMEOUT_S)
            line = process.stdout.readline() if ready else ""
            if not line:
                process.kill()
                raise BenchError("%s\n%s" % (" ".join(self.argv), process.stderr.read().strip()))
            held = Held(process, json.loads(line)["open"])
            yield held
            held.end()
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()

"""
engine.py - a container engine for the tests, and the images they need.

An engine that runs is used as it is. Else dockerd is started here: all it
owns lies in one temporary folder, it gets no bridge of its own and leaves the
machine's packet filter alone, and stop() takes everything away again.

Where an image cannot be pulled, it is made: Debian's base image by
debootstrap (kept as an archive in the user's cache), others from a folder
with a Dockerfile.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

BASE = "debian:bookworm-slim"
SUITE = "bookworm"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "stent-tests"
CACHE_DAYS = 30


class Engine:
    """An engine that answers. docker() and compose() run one command; what they print is returned."""

    def __init__(self):
        self.process = None
        self.folder = None
        self.env = {**os.environ, "DOCKER_BUILDKIT": "1"}
        self.builder = self._client_with_buildkit()
        # The machine's network: an engine started here has no other for builds.
        self.build_options = ["--network=host", *(f"--build-arg={k}={v}" for k, v in os.environ.items() if k.lower().endswith("_proxy"))]
        if subprocess.run(["docker", "info"], capture_output=True, env=self.env).returncode != 0:
            self._start()

    @staticmethod
    def _client_with_buildkit():
        """A client from 23 on needs the plugin buildx for BuildKit; Debian 12's, which comes without, is older."""
        if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode == 0:
            return "docker"
        for client in filter(os.path.exists, ("/usr/bin/docker", shutil.which("docker") or "")):
            version = subprocess.run([client, "--version"], capture_output=True, text=True).stdout
            if int(re.search(r"version (\d+)", version)[1]) < 23:
                return client
        raise RuntimeError("no docker client can use BuildKit: install the plugin buildx")

    def _start(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="stent-dockerd-"))
        socket = f"unix://{self.folder}/docker.sock"
        self.env["DOCKER_HOST"] = socket
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--host", socket, "--data-root", self.folder / "data", "--exec-root", self.folder / "exec",
                 "--pidfile", self.folder / "pid", "--bridge=none", "--iptables=false", "--ip6tables=false",
                 "--ip-forward=false", "--ip-masq=false", "--log-level=warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while subprocess.run(["docker", "info"], capture_output=True, env=self.env).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = (self.folder / "log").read_text()
                self.stop()
                raise RuntimeError(f"dockerd did not start:\n{text}")
            time.sleep(0.2)

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        mounts = [line.split()[1] for line in open("/proc/mounts") if f"{self.folder}/" in line.split()[1]]
        for mount in reversed(mounts):
            subprocess.run(["umount", "-l", mount])
        shutil.rmtree(self.folder)

    # --- commands ---

    def _run(self, command, timeout, check=True, **env):
        done = subprocess.run(list(map(str, command)), text=True, timeout=timeout, env={**self.env, **env},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}")
        return done

    def docker(self, *words, timeout=60, **env):
        return self._run(["docker", *words], timeout, **env).stdout.strip()

    def docker_status(self, *words, timeout=60):
        return self._run(["docker", *words], timeout, check=False).returncode

    def inspect(self, what, template):
        return self.docker("inspect", "--format", template, what)

    def compose(self, files, project, *words, timeout=120, **env):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, env=self.env).returncode == 0
        tool = ["docker", "compose"] if plugin else ["docker-compose"]
        named = [word for file in files for word in ("-f", file)]
        return self._run([*tool, *named, "-p", project, *words], timeout, **env).stdout.strip()

    def build(self, tag, folder, dockerfile=None, architecture=None):
        """architecture: of another machine than this one. BuildKit builds for it where there is one, as the README says."""
        options = ["-f", dockerfile] if dockerfile else []
        if architecture:
            options.append(f"--platform=linux/{architecture}")
        self._run([self.builder, "build", "-q", *self.build_options, *options, "-t", tag, folder], 400)

    # --- images ---

    def has_or_pulls(self, image):
        return self.docker_status("image", "inspect", image) == 0 or \
            self.docker_status("pull", "-q", image, timeout=120) == 0

    def need_base(self):
        if not self.has_or_pulls(BASE):
            self.docker("import", base_archive(), BASE)

    def need(self, image, folder):
        if not self.has_or_pulls(image):
            self.build(image, folder)


def mirror():
    """Where this machine gets Debian from, if it does, as a word for debootstrap; else it uses its own."""
    done = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages",
                           f"Codename: {SUITE}", "Component: main"], capture_output=True, text=True)
    http = [uri for uri in done.stdout.split() if uri.startswith("http:")]
    return http[:1]


def base_archive():
    """A minimal Debian as a tar archive, made when there is none yet, or an old one."""
    archive = CACHE / f"{SUITE}.tar"
    with contextlib.suppress(FileNotFoundError):
        if time.time() - archive.stat().st_mtime < CACHE_DAYS * 86400:
            return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stent-debootstrap-") as folder:
        root = pathlib.Path(folder) / "root"
        made = subprocess.run(["debootstrap", "--variant=minbase", SUITE, root, *mirror()], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert made.returncode == 0, made.stdout[-3000:]
        # As Debian's own image has it: nothing in there has to survive a power cut.
        (root / "etc/dpkg/dpkg.cfg.d/docker-apt-speedup").write_text("force-unsafe-io\n")
        for deb in (root / "var/cache/apt/archives").glob("*.deb"):
            deb.unlink()
        part = archive.with_suffix(f".{os.getpid()}")
        subprocess.run(["tar", "-C", root, "-cf", part, "."], check=True)
        part.rename(archive)
    return archive

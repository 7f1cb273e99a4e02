"""
arm64_machine.py - stent in its sandbox on an arm64 kernel: Debian's, in an emulated machine.

The emulation of single programs knows neither seccomp nor Landlock. So a whole machine starts, with Debian's cloud kernel and all
that it needs in its memory: stent and its unit tests, the libraries, a shell and Perl. arm64_init.sh is its first process, and its
console is what run() returns.
"""

import pathlib
import re
import shutil
import subprocess
import tempfile

import arm64
import engine
import harness

QEMU = shutil.which("qemu-system-aarch64")
KERNEL = "linux-image-cloud-arm64"
MACHINE = ("-M", "virt", "-cpu", "cortex-a57", "-smp", "2", "-m", "768", "-nographic", "-no-reboot", "-nic", "none")
SETTINGS = """[stent]
workers = 2
log = stderr
control = /run/stent/control.sock
user = nobody
[route plain]
listen = 127.0.0.1:6001
backend = 127.0.0.1:7000
[route out]
listen = 127.0.0.1:6002
backend = localhost:6003
protocol = tcp
backend.tls = insecure
[route in]
listen = 127.0.0.1:6003
backend = 127.0.0.1:7000
protocol = tcp
client.tls = require
client.tls_cert = /conf/cert.pem
client.tls_key = /conf/key.pem
"""


def kernel():
    """The kernel's file, in the user's cache."""
    found = engine.CACHE / f"{engine.SUITE}-arm64-kernel"
    if not found.exists():
        with tempfile.TemporaryDirectory(prefix="stent-debootstrap-", dir=engine.CACHE) as folder:
            arm64.run("debootstrap", "--arch=arm64", "--variant=minbase", "--download-only", f"--include={KERNEL}", engine.SUITE, folder, *engine.mirror())
            deb, = pathlib.Path(folder).glob("var/cache/apt/archives/linux-image-[0-9]*.deb")
            arm64.run("dpkg-deb", "-x", deb, f"{folder}/unpacked")
            image, = pathlib.Path(folder).glob("unpacked/boot/vmlinuz-*")
            shutil.move(image, found)
    return found


class Archive:
    """What the kernel unpacks into its memory: the format "newc" of cpio."""

    def __init__(self):
        self.data, self.names = bytearray(), set()

    def add(self, name, mode, body=b""):
        name = str(name).lstrip("/")
        for folder in reversed(pathlib.PurePath(name).parents[:-1]):
            if str(folder) not in self.names:
                self._entry(str(folder), 0o40755, b"")
        self._entry(name, mode, body)

    def _entry(self, name, mode, body):
        self.names.add(name)
        fields = [len(self.names), mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0]
        self._piece(b"070701" + b"".join(b"%08x" % n for n in fields) + name.encode() + b"\0")
        self._piece(body)

    def _piece(self, data):
        self.data += data + b"\0" * (-(len(self.data) + len(data)) % 4)

    def add_file(self, name, path):
        """A link is followed."""
        self.add(name, 0o100755 if path.stat().st_mode & 0o100 else 0o100644, path.read_bytes())

    def end(self):
        self._entry("TRAILER!!!", 0, b"")
        return self.data


def libraries(root, programs):
    """Those that the programs need, with those that they need in turn: paths in root."""
    found, left = {}, list(programs)
    while left:
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", arm64.run("readelf", "-d", left.pop())):
            if name not in found:
                found[name] = next(path for path in (root / folder / arm64.TRIPLET / name for folder in ("lib", "usr/lib")) if path.exists())
                left.append(found[name])
    return found.values()


def add_system(archive, root, programs):
    """A shell, a few programs, Perl; and the libraries, where stent looks for them as it was built for qemu's user emulation, and where the shell does."""
    tools = [root / "bin" / name for name in ("bash", "cat", "chmod", "grep", "ls", "mkdir", "mount", "rm", "sleep", "uname")]
    perl = root / "usr" / "lib" / arm64.TRIPLET / "perl-base"
    for file in [*tools, root / "usr" / "bin" / "perl", *(path for path in perl.rglob("*") if path.is_file())]:
        archive.add_file(file.relative_to(root), file)
    for file in libraries(root, [*tools, root / "usr" / "bin" / "perl", *programs]):
        archive.add_file(file, file)
        archive.add(f"lib/{arm64.TRIPLET}/{file.name}", 0o120777, str(file).encode())
    loader = root / "lib" / "ld-linux-aarch64.so.1"
    archive.add_file(loader, root / "lib" / arm64.TRIPLET / loader.name)
    archive.add(f"lib/{loader.name}", 0o120777, str(loader).encode())
    archive.add("bin/sh", 0o120777, b"bash")


def run(folder, certificate):
    """Builds stent and the unit tests of its sandbox for arm64 in a folder, and starts the machine; returns what is on its console."""
    root = arm64.sysroot()
    build = arm64.configure(folder, root)
    programs = [build / name for name in ("stent", *(f"tests/unit/test_sandbox{name}" for name in ("", "_files", "_kernels")))]
    arm64.run("ninja", "-C", build, *(program.relative_to(build) for program in programs))
    archive = Archive()
    add_system(archive, root, programs)
    for program in programs:
        archive.add_file(program.name, program)
    archive.add_file("init", harness.ROOT / "tests" / "docker" / "arm64_init.sh")
    archive.add("etc/passwd", 0o100644, b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    archive.add("etc/hostname", 0o100644, b"arm64\n")
    archive.add("etc/hosts", 0o100644, b"127.0.0.1 localhost\n")
    archive.add("conf/stent.ini", 0o100644, SETTINGS.encode())
    archive.add("conf/cert.pem", 0o100644, pathlib.Path(certificate.cert).read_bytes())
    archive.add("conf/key.pem", 0o100644, pathlib.Path(certificate.key).read_bytes())
    initrd = folder / "initrd"
    initrd.write_bytes(archive.end())
    return arm64.run(QEMU, *MACHINE, "-kernel", kernel(), "-initrd", initrd, "-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init", timeout=1500)

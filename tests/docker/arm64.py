"""
arm64.py - the unit tests of an arm64 build on another machine.

Debian's cross compiler builds against Debian's arm64 packages, unpacked into
one folder of the user's cache (the machine's own package system stays as it
is); qemu's user emulation runs what was built.
"""

import pathlib
import shutil
import subprocess
import tempfile
import time

import engine
import harness

QEMU = shutil.which("qemu-aarch64-static")
LIBRARIES = "libc6-dev,libevent-dev,libinih-dev,libjansson-dev,libmicrohttpd-dev,libssl-dev,libcmocka-dev"
TRIPLET = "aarch64-linux-gnu"


def run(*command, timeout=600):
    done = subprocess.run(list(map(str, command)), text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


def sysroot():
    """A folder with the arm64 libraries and headers; made when there is none yet, or an old one."""
    root = engine.CACHE / f"{engine.SUITE}-arm64"
    if root.exists() and time.time() - root.stat().st_mtime < engine.CACHE_DAYS * 86400:
        return root
    engine.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stent-debootstrap-", dir=engine.CACHE) as folder:
        got, made = pathlib.Path(folder) / "packages", pathlib.Path(folder) / "root"
        run("debootstrap", "--arch=arm64", "--variant=minbase", "--download-only", f"--include={LIBRARIES}",
             engine.SUITE, got, *engine.mirror())
        for deb in (got / "var/cache/apt/archives").glob("*.deb"):
            run("dpkg-deb", "-x", deb, made)
        shutil.rmtree(root, ignore_errors=True)
        made.rename(root)
        root.touch()
    return root


def cross_file(root, path):
    """The image's cross file, with the libraries in root: for the linker, and for the programs as they run under qemu."""
    text = (harness.ROOT / "docker" / "arm64.ini").read_text()
    libraries = f"{root}/lib/{TRIPLET}:{root}/usr/lib/{TRIPLET}"
    text = text.replace("[binaries]\n", f"[binaries]\nexe_wrapper = '{QEMU}'\n")
    text = text.replace("[properties]\n", f"[properties]\nsys_root = '{root}'\n")
    text = text.replace(f"/usr/lib/{TRIPLET}/pkgconfig:/usr/share", f"{root}/usr/lib/{TRIPLET}/pkgconfig:{root}/usr/share")
    link = [f"--sysroot={root}", f"-Wl,--dynamic-linker={root}/lib/ld-linux-aarch64.so.1",
            f"-Wl,-rpath={libraries}", "-Wl,--disable-new-dtags"]
    path.write_text(f"{text}\n[built-in options]\nc_args = ['--sysroot={root}']\nc_link_args = {link}\n")
    return path


def configure(folder, root):
    """Sets a build for arm64 up in a folder; returns where."""
    run("meson", "setup", folder / "build", harness.ROOT, "--cross-file", cross_file(root, folder / "cross.ini"), "-Dtests=enabled")
    return folder / "build"


def unit_tests(folder):
    """Builds the unit tests for arm64 in a folder and runs them; returns what meson says of them."""
    build = configure(folder, sysroot())
    run("ninja", "-C", build)
    # Emulation is some thirty times slower than the machine.
    return run("meson", "test", "-C", build, "--no-rebuild", "--quiet", "--print-errorlogs", "--timeout-multiplier=10", timeout=1800)

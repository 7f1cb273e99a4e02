"""The sandbox of a stent that runs: who starts it, what it says, what a reload can and cannot do in it. The forbidden calls are in tests/unit/test_sandbox.c."""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import harness
import pytest
from harness import HOST, free_port, stent_bin, wait_for
from reloading import reload, write

pytestmark = pytest.mark.plain		# not in builds with sanitizers, which need more calls

OUTSIDE = "the sandbox allows only the folders that the settings named at the start; restart stent, or set sandbox = off"


@pytest.fixture
def folders():
    """Folders that nobody may look into: in, out."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = pathlib.Path(folder)
        for name in "in", "out":
            (root / name).mkdir()
            os.chmod(root / name, 0o777)
        yield root


def in_kernel():
    """Version of Landlock, or an error < 0."""
    return ctypes.CDLL(None).syscall(444, None, 0, 1)



def threads(pid):
    """{name of a thread: (seccomp mode, no_new_privs)}"""
    return {name: (int(value["Seccomp"]), int(value["NoNewPrivs"])) for name, value in statuses(pid).items()}


def statuses(pid):
    """{name of a thread: what the kernel says of it}"""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found[status["Name"].strip()] = status
    return found


def filters(pid):
    """How many seccomp filters (Linux 5.9) each thread has besides those that this one has, such as a container's."""
    own = int(re.search(r"Seccomp_filters:\s*(\d+)", pathlib.Path("/proc/thread-self/status").read_text())[1])
    return {int(status["Seccomp_filters"]) - own for status in statuses(pid).values()}


def expected_line():
    version = in_kernel()
    if version < 1:
        return "sandbox: seccomp; no Landlock"
    return f"sandbox: seccomp, Landlock ABI {version} (files{', ports' if version >= 4 else ''})"


def exchange(s):
    with s.connect() as client:
        client.send_all(b"hello")
        assert client.recv_exact(5) == b"hello"


def test_every_thread_is_in_it(stent, echo):
    s = stent.route(echo.text, settings={"workers": 2})
    s.wait_logged(re.escape(expected_line()))
    wait_for(lambda: set(threads(s.pid).values()) == {(2, 1)}, what="every thread to have a filter")
    assert {"stent", "stent-0", "stent-1", "stent-log"} == set(threads(s.pid))
    assert filters(s.pid) == {1}	# the kernel asks all of them for each call
    exchange(s)


def test_it_can_be_off(stent, echo):
    s = stent.route(echo.text, settings={"sandbox": "off"})
    exchange(s)
    assert not s.logged("sandbox:") and set(threads(s.pid).values()) == {(0, 1)}


@pytest.mark.parametrize("user", ["root", "root for good", "plain"])
def test_who_starts_it(stent, echo, folders, user):
    listen = f"unix:{folders}/in/l.sock"
    if user == "plain":
        assert shutil.which("setpriv")
        # what it needs is in a folder that it may write to
        ini = folders / "in" / "stent.ini"
        ini.write_text(f"[stent]\nlog_format = json\ncontrol = {folders}/in/c.sock\nadmin = off\n[route t]\nlisten = {listen}\nbackend = {echo.text}\n")
        program = folders / "stent"
        shutil.copy(stent_bin(), program)
        process = subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(program), "run", "-c", str(ini)],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            wait_for(lambda: (folders / "in" / "l.sock").exists() and set(threads(process.pid).values()) == {(2, 1)}, what="the sandbox")
            with harness.connect(listen) as client:
                client.send_all(b"hello")
                assert client.recv_exact(5) == b"hello"
        finally:
            process.terminate()
            output = process.communicate(timeout=10)[0]
        assert process.returncode == 0 and expected_line() in output
    else:
        s = stent.route(echo.text, listen=listen, settings={"user": "nobody" if user == "root" else "off"})
        s.wait_logged(re.escape(expected_line()))
        exchange(s)
        assert s.ask("status")["pid"] == s.pid
        s.stop()
    assert not (folders / "in" / "l.sock").exists()


# stent's words behind these: calls that fail as in a kernel that lacks them. The filter stays over exec.
LACKING = """
import ctypes, os, sys
lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(lib.seccomp_init(0x7fff0000))
end = sys.argv.index("--")
for word in sys.argv[1:end]:
    name, error = word.split("=")
    assert lib.seccomp_rule_add(context, 0x00050000 | int(error), lib.seccomp_syscall_resolve_name(name.encode()), 0) == 0
assert lib.seccomp_load(context) == 0
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""


def without(*calls):
    """Words before stent's: those calls (NAME=ERRNO) fail."""
    return [sys.executable, "-c", LACKING, *calls, "--"]


def landlock_alone():
    version = in_kernel()
    if version < 1:
        return "warn", "sandbox: none. seccomp is not available: Invalid argument; Landlock: "
    return "warn", f"sandbox: Landlock ABI {version} (files{', ports' if version >= 4 else ''}); seccomp is not available: Invalid argument"


NO_LANDLOCK = "info", "sandbox: seccomp; no Landlock in this kernel or container: "


@pytest.mark.parametrize("calls, level, line", [
    (["landlock_create_ruleset=38"], NO_LANDLOCK[0], NO_LANDLOCK[1] + "Function not implemented"),
    (["landlock_create_ruleset=95"], NO_LANDLOCK[0], NO_LANDLOCK[1] + "Operation not supported"),
    (["seccomp=22"], *landlock_alone()),
    (["seccomp=22", "landlock_create_ruleset=38"], "warn", "sandbox: none. seccomp is not available: Invalid argument; Landlock: Function not implemented"),
], ids=["no Landlock", "Landlock is off", "no seccomp", "neither"])
def test_a_kernel_that_lacks_it(stent, echo, calls, level, line):
    s = stent.route(echo.text, settings={"prefix": without(*calls)})
    assert s.wait_logged(re.escape(line))[0]["level"] == level
    exchange(s)
    assert filters(s.pid) == {1 if "seccomp=22" in calls else 2}	# one makes the calls fail here


# --- a reload ---

def refuses(s, text, routes, **settings):
    """A reload that is refused with that text, and changes nothing."""
    before = s.ini_path.read_text()
    write(s, routes, **settings)
    errors = "\n".join(s.ask("reload")["errors"])
    assert text in errors, errors
    s.ini_path.write_text(before)
    exchange(s)


def needs_restart(s, text, routes, **settings):
    """As refuses(), where the kernel has Landlock; else every folder is open, and the reload succeeds."""
    if in_kernel() >= 1:
        refuses(s, text, routes, **settings)
    else:
        reload(s, routes, **settings)


def test_a_folder_that_is_new_needs_a_restart(stent, echo, folders, certificates):
    inside, outside = folders / "in", folders / "out"
    for folder in inside, outside:
        for name in "cert", "key":
            shutil.copy(getattr(certificates.good, name), folder / f"{name}.pem")
            os.chmod(folder / f"{name}.pem", 0o644)
        (folder / "token").write_text("0123456789abcdef0123456789abcdef")
        (folder / "nets").write_text("127.0.0.0/8\n")
    # the folder of a listener, of the log, of a secret and of a list; that of a certificate is another one's
    keys = {"listen": f"{HOST}:{free_port()}", "backend": echo.text, "allow": f"file:{inside}/nets"}
    tls = {"listen": f"unix:{inside}/tls.sock", "backend": echo.text, "client__tls": "require",
           "client__tls_cert": f"{inside}/cert.pem", "client__tls_key": f"{inside}/key.pem"}
    ini = "".join(f"[route {name}]\n" + "".join(f"{k.replace('__', '.')} = {v}\n" for k, v in route.items())
                  for name, route in (("t", keys), ("tls", tls)))
    s = stent(ini, admin_token=f"@{inside}/token", log=f"file:{inside}/stent.log")
    routes = {"t": keys, "tls": tls}
    needs_restart(s, f"cannot be read: {OUTSIDE}", {"t": {**keys, "allow": f"file:{outside}/nets"}, "tls": tls})
    needs_restart(s, f'the file "{outside}/token" cannot be read: {OUTSIDE}', routes, admin_token=f"@{outside}/token")
    needs_restart(s, f"{outside}/cert.pem: cannot be read: {OUTSIDE}", {"t": keys, "tls": {**tls, "client__tls_cert": f"{outside}/cert.pem"}})
    needs_restart(s, f"{outside}/key.pem: cannot be read: {OUTSIDE}", {"t": keys, "tls": {**tls, "client__tls_key": f"{outside}/key.pem"}})
    needs_restart(s, f"log: {outside}/stent.log cannot be opened: {OUTSIDE}", routes, log=f"file:{outside}/stent.log")
    needs_restart(s, f"cannot listen on unix:{outside}/l.sock: {OUTSIDE}", {"t": keys, "tls": {**tls, "listen": f"unix:{outside}/l.sock"}})
    # other files of folders that are known, files that others have taken the place of, and ports, are no matter
    for name in "cert", "key":
        shutil.copy(inside / f"{name}.pem", inside / f"{name}.new")
        os.replace(inside / f"{name}.new", inside / f"{name}.pem")
    shutil.copy(inside / "nets", inside / "nets2")
    os.chmod(inside / "nets2", 0o644)
    reload(s, {"t": {**keys, "allow": f"file:{inside}/nets2"}, "tls": {**tls, "listen": f"unix:{inside}/other.sock"},
               "new": {"listen": f"{HOST}:{free_port()}", "backend": f"{HOST}:{free_port()}"}}, log=f"file:{inside}/other.log")
    assert (inside / "other.sock").exists()
    wait_for(lambda: not (inside / "tls.sock").exists(), what="the old listener to be gone")
    exchange(s)
    # the log is rotated
    os.rename(inside / "other.log", inside / "other.log.1")
    s.signal(signal.SIGUSR1)
    exchange(s)
    wait_for(lambda: (inside / "other.log").exists() and "flow end" in (inside / "other.log").read_text(), what="the new log")


def test_without_landlock_a_new_folder_needs_no_restart(stent, echo, folders):
    s = stent.route(echo.text, settings={"prefix": without("landlock_create_ruleset=38"), "log": f"file:{folders}/in/stent.log"})
    wait_for(lambda: NO_LANDLOCK[1] in (folders / "in" / "stent.log").read_text(), what="what the log says of it")
    reload(s, {"t": {"listen": f"{HOST}:{s.port}", "backend": echo.text}, "new": {"listen": f"unix:{folders}/out/l.sock", "backend": echo.text}},
           log=f"file:{folders}/out/stent.log")
    with harness.connect(f"unix:{folders}/out/l.sock") as client:
        client.send_all(b"hello")
        assert client.recv_exact(5) == b"hello"
    wait_for(lambda: "flow end" in (folders / "out" / "stent.log").read_text(), what="the new log")


# --- the program of on_event ---

def test_a_helper_runs_the_program(stent, echo, folders):
    told = folders / "in" / "told"
    for name in "hook", "other":
        (folders / name).write_text(f"#!/bin/sh\ncat >>{told}\n")
        os.chmod(folders / name, 0o755)
    s = stent.route(echo.text, settings={"on_event": f"exec:{folders}/hook", "events": "flow-end"})
    exchange(s)
    wait_for(lambda: told.exists() and "flow-end" in told.read_text(), what="the event")
    helper = int(subprocess.run(["pgrep", "-P", str(s.pid)], capture_output=True, text=True).stdout)
    assert pathlib.Path(f"/proc/{helper}/comm").read_text() == "stent-on-event\n"
    keys = {"listen": f"{HOST}:{s.port}", "backend": echo.text}
    refuses(s, f"on_event = exec:{folders}/other: in the sandbox only the program that was set at the start", {"t": keys}, on_event=f"exec:{folders}/other")
    reload(s, {"t": keys}, on_event="off")
    reload(s, {"t": keys}, on_event=f"exec:{folders}/hook")
    before = told.stat().st_size
    exchange(s)
    wait_for(lambda: told.stat().st_size > before, what="another event")
    # a terminal and systemd signal every process
    os.kill(helper, signal.SIGTERM)
    exchange(s)
    s.stop()
    assert not pathlib.Path(f"/proc/{helper}").exists()


def test_the_helper_ends_with_stent(stent, echo, folders):
    pids = folders / "in" / "pids"
    (folders / "hook").write_text(f"#!/bin/sh\necho $$ >{pids}.new && mv {pids}.new {pids}\nexec sleep 1000\n")
    os.chmod(folders / "hook", 0o755)
    s = stent.route(echo.text, settings={"on_event": f"exec:{folders}/hook", "events": "flow-end", "event_timeout": "10m", "user": "nobody"})
    helper = int(subprocess.run(["pgrep", "-P", str(s.pid)], capture_output=True, text=True).stdout)
    exchange(s)
    wait_for(pids.exists, what="the program")
    assert pids.stat().st_uid == 65534
    s.kill()
    for pid in helper, int(pids.read_text()):
        wait_for(lambda pid=pid: not is_running(pid), what=f"process {pid} to end")


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_its_helper_the_rest_goes_on(stent, echo, folders):
    (folders / "hook").write_text("#!/bin/sh\n")
    os.chmod(folders / "hook", 0o755)
    s = stent.route(echo.text, settings={"on_event": f"exec:{folders}/hook", "events": "flow-end"})
    helper = int(subprocess.run(["pgrep", "-P", str(s.pid)], capture_output=True, text=True).stdout)
    os.kill(helper, signal.SIGKILL)
    s.wait_logged("the process that runs it has ended; restart stent")
    exchange(s)
    exchange(s)

"""What stent does while it is root, in folders where another user may exchange files at any moment; and what is left when it is root no more."""

import ctypes
import os
import pathlib
import pwd
import signal
import socket
import stat
import struct
import tempfile

import harness
import pytest

THEM = pwd.getpwnam("daemon")		# the other user
NOBODY = pwd.getpwnam("nobody")
IN_ATTRIB, IN_NONBLOCK = 4, 0o4000
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def folders():
    """A folder of root's that anybody may look into (as /run is), with one of the other user's in it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = pathlib.Path(folder)
        theirs = root / "theirs"
        theirs.mkdir(mode=0o755)
        os.chown(theirs, THEM.pw_uid, THEM.pw_gid)
        yield root, theirs


def as_them(what):
    """Calls what() as the other user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(*[THEM.pw_gid] * 3)
            os.setresuid(*[THEM.pw_uid] * 3)
            what()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


class Watch:
    """Names of the files in a folder whose mode or owner was changed by their path."""

    def __init__(self, folder):
        self.fd = libc.inotify_init1(IN_NONBLOCK)
        assert libc.inotify_add_watch(self.fd, os.fsencode(folder), IN_ATTRIB) >= 0

    def changed(self):
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        names = []
        while data:
            length = struct.unpack("iIII", data[:16])[3]
            names.append(data[16:16 + length].rstrip(b"\0").decode())
            data = data[16 + length:]
        return names

    def close(self):
        os.close(self.fd)


def owner_and_mode(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)


def refused(echo, listen, *options, user="nobody"):
    """Why `stent relay` does not start."""
    done = harness.run_stent("relay", listen, echo.text, f"--user={user}", "--admin=off", "--control=off", *options)
    assert done.returncode == 1, done.stderr
    return done.stderr


# --- UNIX listeners ---

@pytest.mark.parametrize("mode", [None, "600", "0666"])
def test_a_unix_listener_is_the_users_with_its_mode(stent, echo, folders, mode):
    root, _ = folders
    path = root / "in.sock"
    before = os.umask(0o077)
    try:
        s = stent.route(echo.text, listen=f"unix:{path}", settings={"user": "nobody"}, **({"unix_mode": mode} if mode else {}))
    finally:
        os.umask(before)
    s.connect().close()
    assert owner_and_mode(path) == (NOBODY.pw_uid, NOBODY.pw_gid, int(mode or "0660", 8))


def test_nothing_is_changed_by_its_path_in_a_folder_of_another(stent, echo, folders):
    """The folder's owner could have put a link to /etc/shadow there between bind() and chmod()."""
    _, theirs = folders
    watch = Watch(theirs)
    s = stent.route(echo.text, listen=f"unix:{theirs}/in.sock", settings={"user": "nobody"})
    assert watch.changed() == []
    watch.close()
    s.wait_logged("in.sock is owned by root")
    assert owner_and_mode(theirs / "in.sock") == (0, 0, 0o660)


def test_in_the_users_own_folder_its_own_rights_are_enough(stent, echo, folders):
    root, theirs = folders
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    watch = Watch(theirs)
    s = stent.route(echo.text, listen=f"unix:{theirs}/in.sock", settings={"user": "nobody"})
    assert owner_and_mode(theirs / "in.sock") == (NOBODY.pw_uid, NOBODY.pw_gid, 0o660)
    assert watch.changed() == []
    watch.close()
    s.stop()
    assert not (theirs / "in.sock").exists()


def test_a_listener_follows_no_link_of_another(echo, folders):
    root, theirs = folders
    as_them(lambda: os.symlink(root, theirs / "run"))
    assert "through a symbolic link that another user can change" in refused(echo, f"unix:{theirs}/run/in.sock")
    assert not (root / "in.sock").exists()


def test_roots_own_links_are_followed(stent, echo, folders):
    """As /var/run is one."""
    root, _ = folders
    (root / "run").mkdir()
    (root / "link").symlink_to("run")
    (root / "over").symlink_to(root / "link")
    s = stent.route(echo.text, listen=f"unix:{root}/over/in.sock")
    s.connect().close()
    assert (root / "run" / "in.sock").exists()


def test_anothers_socket_is_not_removed(stent, echo, folders):
    """Bound and not listening looks as if it had been left behind."""
    root, theirs = folders
    os.chmod(root, 0o1777)
    mine = socket.socket(socket.AF_UNIX)
    as_them(lambda: mine.bind(str(root / "in.sock")))
    inode = os.lstat(root / "in.sock").st_ino
    assert "another user's socket is there" in refused(echo, f"unix:{root}/in.sock")
    assert os.lstat(root / "in.sock").st_ino == inode
    mine.close()
    # one that stent left behind there, as the user of its settings, is replaced
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(root / "left.sock"))
    os.chown(root / "left.sock", NOBODY.pw_uid, NOBODY.pw_gid)
    stent.route(echo.text, listen=f"unix:{root}/left.sock", settings={"user": "nobody"}).connect().close()


# --- the log file ---

def log_lines(path):
    return path.read_text().count("\n")


@pytest.mark.parametrize("bait", ["link", "hard link", "fifo", "folder"])
def test_a_log_file_in_a_folder_of_another_is_a_plain_file(echo, folders, bait):
    root, theirs = folders
    secret = root / "secret"
    secret.write_text("root's\n")
    log = theirs / "stent.log"
    if bait == "link":
        as_them(lambda: os.symlink(secret, log))
    elif bait == "hard link":
        os.link(secret, log)		# by them, where fs.protected_hardlinks is off
    elif bait == "fifo":
        as_them(lambda: os.mkfifo(log))
        reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    else:
        as_them(lambda: os.symlink(root, theirs / "logs"))
        log = theirs / "logs" / "secret"
    told = refused(echo, f"{harness.HOST}:{harness.free_port()}", f"--log=file:{log}")
    assert f"cannot open the log {log}: " in told and "another user can change" in told
    assert secret.read_text() == "root's\n" and owner_and_mode(secret)[0] == 0
    if bait == "fifo":
        assert os.read(reader, 100) == b""
        os.close(reader)


def test_a_log_file_is_no_link_either_when_it_is_opened_again(stent, echo, folders):
    root, theirs = folders
    secret = root / "secret"
    secret.write_text("root's\n")
    log = theirs / "stent.log"
    s = stent.route(echo.text, settings={"log": f"file:{log}"})
    as_them(lambda: (os.rename(log, theirs / "old.log"), os.symlink(secret, log)))
    s.signal(signal.SIGUSR1)
    harness.wait_for(lambda: "the old one stays in use" in (theirs / "old.log").read_text())
    s.connect().close()
    harness.wait_for(lambda: "flow end" in (theirs / "old.log").read_text())
    assert secret.read_text() == "root's\n"


def test_a_log_file_of_anothers_making_is_not_given_away(stent, echo, folders):
    """It may be root's own file, moved there. One that stent made is given to its user."""
    _, theirs = folders
    (theirs / "moved").write_text("")
    stent.route(echo.text, settings={"log": f"file:{theirs}/moved", "user": "nobody"})
    stent.route(echo.text, settings={"log": f"file:{theirs}/made", "user": "nobody"})
    for name, uid in (("moved", 0), ("made", NOBODY.pw_uid)):
        harness.wait_for(lambda: "runs with" in (theirs / name).read_text())
        assert owner_and_mode(theirs / name)[0] == uid


def test_a_log_may_go_to_an_open_descriptor(stent, echo):
    """The links of /proc lead to what is open: /dev/stderr is one of root's."""
    s = stent.route(echo.text, settings={"log": "file:/dev/stderr"})
    s.connect().close()
    assert s.flow_end()


# --- when it is root no more ---

@pytest.mark.workers
def test_no_thread_can_be_root_again(stent, echo):
    s = stent.route(echo.text, settings={"user": "nobody", "workers": 2})
    s.connect().close()
    harness.wait_for(lambda: len(os.listdir(f"/proc/{s.pid}/task")) >= 4, what="main, two workers, the log's thread")
    tasks = os.listdir(f"/proc/{s.pid}/task")
    for task in tasks:
        with open(f"/proc/{s.pid}/task/{task}/status") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        assert {key: int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == \
            dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
        assert status["Uid"].split() == [str(NOBODY.pw_uid)] * 4 and status["Groups"].strip() == ""

"""Faults of the machine and orders of the operator: descriptors, memory, limits, drain, signals, logs."""

import json
import os
import pathlib
import pwd
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time

import harness
import pytest


def talk(peer):
    peer.send_all(b"ping")
    assert peer.recv_exact(4) == b"ping"


def connected(s):
    peer = s.connect()
    talk(peer)
    return peer


@pytest.mark.parametrize("workers, left", [(1, 6), (1, 7), pytest.param(4, 7, marks=pytest.mark.workers)])
def test_out_of_descriptors_pauses_accepting_and_resumes(stent, echo, workers, left):
    s = stent.route(echo.text, settings={"workers": workers})
    first = connected(s)
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (s.fds() + left, 20000))
    others = [s.connect() for _ in range(10)]           # the kernel accepts them; stent cannot take all
    s.wait_logged("cannot accept: Too many open files")
    for _ in range(5):
        talk(first)                                     # open flows go on
        time.sleep(0.1)
    assert len(s.wait_logged("cannot accept")) == 1          # one line, however often it is tried
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (20000, 20000))
    s.wait_logged("accepting again")
    for peer in others:                                 # each waited; none was let in to be turned away
        talk(peer)
    talk(connected(s))
    s.expect_no_event("flow end", reason="limit")


def test_max_flows_holds_and_says_so(stent, echo):
    s = stent.route(echo.text, settings={"max_flows": 3})
    open_ = [connected(s) for _ in range(3)]
    for _ in range(5):
        s.expect_refusal()
    assert s.flow_end()["reason"] == "limit"
    assert len(s.wait_logged("max_flows = 3 reached")) == 1
    open_.pop().close()
    s.flow_end(reason="client-fin")
    talk(connected(s))
    for peer in open_:
        talk(peer)


@pytest.mark.parametrize("reason", ["limit", "denied", "backend-refused"])
def test_a_flood_of_refused_clients_is_counted_not_listed(stent, echo, reason):
    backend = {"limit": echo.text, "denied": "original", "backend-refused": harness.free_port()}[reason]
    s = stent.route(backend, settings={"max_flows": 1} if reason == "limit" else None)
    kept = connected(s) if reason == "limit" else None
    for _ in range(200):
        s.expect_refusal()

    def told():
        counts = [r["flows"] for r in s.logged("^flows refused$") if r["route"] == "t" and r["reason"] == reason]
        whole = [r for r in s.logged("^flow end$") if r["reason"] == reason]
        return len(whole) + sum(counts) == 200 and (len(whole), len(counts))
    whole, counts = harness.wait_for(told, what="all of them to be logged")
    assert 0 < whole < 60 and counts < 40               # some whole ones, then two lines a second at most
    assert len(s.records) < 150
    if kept is not None:
        talk(kept)


def test_the_last_refused_clients_are_logged_before_the_end(stent):
    s = stent.route(harness.free_port())
    for _ in range(30):
        s.expect_refusal()
    s.stop()
    assert len(s.logged("^flow end$")) + sum(r["flows"] for r in s.logged("^flows refused$")) == 30


@pytest.mark.lab
def test_max_flows_is_what_the_watches_of_epoll_allow(stent, echo, tmp_path):
    watches = tmp_path / "max_user_watches"
    watches.write_text("1000\n")
    few = harness.privately("/proc/sys/fs/epoll/max_user_watches", watches)
    ini = f"[route t]\nlisten = 127.0.0.1:{{}}\nbackend = {echo.text}\n"
    ready = stent(ini.format(harness.free_port()), prefix=few).wait_logged("max_flows")[0]["message"]
    assert 200 < int(ready.rsplit(" ", 1)[1]) < 500
    s = stent(ini.format(harness.free_port()), max_flows=501, prefix=few)
    assert s.wait_logged("max_flows = 501, but fs.epoll.max_user_watches")[0]["level"] == "warn"
    connected(s)


@pytest.mark.malloc
def test_out_of_memory_ends_only_the_flow_that_needs_it(stent, echo):
    s = stent.route(echo.text)
    first = connected(s)
    with open(f"/proc/{s.pid}/status") as f:
        data = next(int(line.split()[1]) for line in f if line.startswith("VmData:")) * 1024
    resource.prlimit(s.pid, resource.RLIMIT_DATA, (data, -1))
    peers, refused = [], 0
    for _ in range(3000):
        try:
            peers.append(connected(s))
        except ConnectionResetError:
            refused += 1
            if refused == 5:
                break
    talk(first)
    resource.prlimit(s.pid, resource.RLIMIT_DATA, (-1, -1))
    assert refused == 5, "memory never ran out"
    assert [s.flow_end()["reason"] for _ in range(refused)] == ["memory"] * refused
    s.expect_no_event("flow end", seconds=0)
    for peer in peers[:50]:
        talk(peer)
        peer.close()
    talk(connected(s))
    talk(first)


@pytest.mark.malloc
def test_a_client_that_sends_nothing_costs_a_bounded_amount(stent, echo):
    s = stent.route(echo.text)
    warm = [connected(s) for _ in range(50)]
    before = s.memory()
    idle = []
    for i in range(400):
        idle.append(s.connect())
        harness.wait_for(lambda: echo.connections == 51 + i)
    assert (s.memory() - before) / 400 < 2048
    for peer in warm + idle:
        peer.close()


def test_idle_timeout_of_each_leg(stent, raw_backend):
    s = stent.route(raw_backend.text, client__idle_timeout="600ms")
    client, backend = s.connect(), raw_backend.accept()
    for _ in range(4):                                  # the backend's bytes are no sign of the client
        backend.send_all(b"x")
        client.recv_exact(1)
        time.sleep(0.1)
    client.expect_reset(timeout=3)
    end = s.flow_end()
    assert end["reason"] == "client-idle"
    assert 0.6 <= end["seconds"] < 1.2 * harness.SLOW

    s = stent.route(raw_backend.text, backend__idle_timeout="500ms", name="u")
    client, backend = s.connect(), raw_backend.accept()
    for _ in range(3):
        client.send_all(b"x")
        time.sleep(0.1)
    client.expect_reset(timeout=3)
    assert s.flow_end()["reason"] == "backend-idle"


def test_sigterm_waits_for_flows_and_then_closes_them(stent, echo):
    s = stent.route(echo.text, settings={"drain_timeout": "1s"})
    ends_itself, stays = connected(s), connected(s)
    s.signal(signal.SIGTERM)
    s.wait_logged("draining")
    with pytest.raises(OSError):
        s.connect().expect_quiet(0.05)                  # refused, or reset
    time.sleep(0.3)
    talk(stays)
    ends_itself.close()
    assert s.flow_end()["reason"] == "client-fin"
    began = time.monotonic()
    stays.expect_reset(timeout=3)
    assert time.monotonic() - began > 0.3
    assert s.flow_end()["reason"] == "drain"
    assert s.wait() == 0


def test_sigterm_ends_at_once_when_the_last_flow_ends(stent, echo):
    s = stent.route(echo.text, settings={"drain_timeout": "30s"})
    peer = connected(s)
    s.signal(signal.SIGTERM)
    s.wait_logged("draining")
    peer.close()
    assert s.wait(timeout=3) == 0


def test_a_second_sigterm_ends_at_once(stent, echo):
    s = stent.route(echo.text, settings={"drain_timeout": "30s"})
    peer = connected(s)
    s.signal(signal.SIGTERM)
    s.wait_logged("draining")
    s.signal(signal.SIGTERM)
    assert s.wait(timeout=3) == 0
    peer.expect_reset()
    assert s.flow_end()["reason"] == "drain"


def test_another_takes_the_port_while_the_first_one_drains(stent, echo):
    first = stent.route(echo.text, settings={"drain_timeout": "200s"})	# flows end one after the other in it
    peer = connected(first)
    first.signal(signal.SIGTERM)
    first.wait_logged("^draining")
    first.expect_refusal()
    second = stent.route(echo.text, listen=first.listen[0])     # its control socket is another
    talk(connected(second))
    talk(peer)
    assert harness.run_stent("status", "-c", first.ini_path).returncode == 0
    assert harness.run_stent("drain", "--now", "-c", first.ini_path).returncode == 0
    assert first.wait() == 0
    talk(connected(second))


def test_log_file_is_opened_again_on_sigusr1(stent, echo, tmp_path):
    log = tmp_path / "stent.log"
    s = stent.route(echo.text, settings={"log": f"file:{log}"})
    connected(s).close()
    harness.wait_for(lambda: '"flow end"' in log.read_text())
    os.rename(log, tmp_path / "old.log")
    connected(s).close()
    harness.wait_for(lambda: (tmp_path / "old.log").read_text().count('"flow end"') == 2)
    s.signal(signal.SIGUSR1)
    harness.wait_for(log.exists)
    connected(s).close()
    harness.wait_for(lambda: '"flow end"' in log.read_text())
    for line in log.read_text().splitlines():
        json.loads(line)


@pytest.fixture
def roots_folder():
    """A folder of root's that others may only look into, as /var/log is."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


def test_log_file_is_opened_again_after_root_was_given_up(stent, echo, roots_folder):
    log, old = roots_folder / "stent.log", roots_folder / "stent.log.1"
    s = stent.route(echo.text, settings={"log": f"file:{log}", "user": "nobody"})
    nobody = pwd.getpwnam("nobody")
    harness.wait_for(lambda: "runs with" in log.read_text())
    assert (log.stat().st_uid, log.stat().st_gid, log.stat().st_mode & 0o777) == (nobody.pw_uid, nobody.pw_gid, 0o640)

    # logrotate's `nocreate`: nothing is there, and nobody may make it
    log.rename(old)
    s.signal(signal.SIGUSR1)
    told = f"the old one stays in use; create it for user {nobody.pw_uid} before the signal"
    harness.wait_for(lambda: told in old.read_text())
    connected(s).close()
    harness.wait_for(lambda: '"flow end"' in old.read_text())

    # `create`: made for the owner of the old one
    log.touch(0o640)
    os.chown(log, old.stat().st_uid, old.stat().st_gid)
    s.signal(signal.SIGUSR1)
    wrote = lambda: connected(s).close() or '"flow end"' in log.read_text()
    harness.wait_for(wrote, what="lines in the new file", step=0.1)

    # started anew: the file is the user's already
    s.stop()
    stent.route(echo.text, settings={"log": f"file:{log}", "user": "nobody"})
    assert log.stat().st_uid == nobody.pw_uid


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_that_the_log_is_a_link_to_stays_its_owners(stent, echo, roots_folder, link):
    other = roots_folder / "other"
    other.touch()
    link(other, roots_folder / "stent.log")
    stent.route(echo.text, settings={"log": f"file:{roots_folder / 'stent.log'}", "user": "nobody"})
    harness.wait_for(lambda: "runs with" in other.read_text())
    assert other.stat().st_uid == 0


def test_a_text_log_line_says_who_why_and_how_long(stent, echo):
    s = stent.route(echo.text, settings={"log_format": "text"})
    peer = connected(s)
    peer.close()
    line = harness.wait_for(lambda: next((l for l in s.other_lines if " flow end " in l), None))
    for part in ("route=t", f"client=127.0.0.1:{peer_port(line)}", f"backend={echo.text}", "reason=client-fin",
                 "client_bytes=4", "backend_bytes=4", "seconds=", "client_idle="):
        assert part in line, (part, line)


def peer_port(line):
    return line.split("client=127.0.0.1:")[1].split()[0]


def test_the_start_of_a_flow_is_a_debug_line(stent, echo):
    s = stent.route(echo.text)
    connected(s).close()
    start, end = s.flow_start(), s.flow_end()
    assert start["level"] == "debug" and end["level"] == "info"
    assert {k: start[k] for k in ("id", "client", "backend")} == {k: end[k] for k in ("id", "client", "backend")}
    quiet = stent.route(echo.text, name="u", settings={"log_level": "info"})
    connected(quiet).close()
    quiet.flow_end()
    assert not [r for r in quiet.records if r.get("event") == "flow start"]


def test_sigpipe_never_kills(stent, raw_backend):
    s = stent.route(raw_backend.text)
    for _ in range(20):
        client, backend = s.connect(), raw_backend.accept()
        backend.reset()
        try:
            for _ in range(20):
                client.send_all(b"x" * 1000)
        except OSError:
            pass
    talk_again = s.connect()
    raw_backend.accept()
    talk_again.close()


def test_root_is_given_up_for_the_user_of_the_settings(stent, echo):
    s = stent.route(echo.text, settings={"user": "nobody"})
    connected(s).close()
    status = open(f"/proc/{s.pid}/status").read()
    uid = subprocess.run(["id", "-u", "nobody"], capture_output=True, text=True).stdout.strip()
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
    assert "Groups:\t \n" in status or "Groups:\t\n" in status


@pytest.mark.workers
def test_flows_are_spread_over_the_workers_by_count(stent, echo):
    s = stent.route(echo.text, settings={"workers": 4})
    peers = [connected(s) for _ in range(40)]
    ids = [s.flow_start()["id"] for _ in peers]
    by_worker = [sum(1 for i in ids if i % 4 == w) for w in range(4)]
    assert by_worker == [10, 10, 10, 10]
    names = sorted(open(f"/proc/{s.pid}/task/{t}/comm").read().strip() for t in os.listdir(f"/proc/{s.pid}/task"))
    assert [n for n in names if re.fullmatch(r"stent-\d+", n)] == ["stent-0", "stent-1", "stent-2", "stent-3"]

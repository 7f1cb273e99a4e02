"""Keepalive on each leg: on by default, each leg its own, read back from the kernel. Listeners and backends of every kind."""

import os
import signal
import socket
import subprocess
import time

import harness
import pytest

KEEP = {"idle": socket.TCP_KEEPIDLE, "interval": socket.TCP_KEEPINTVL, "probes": socket.TCP_KEEPCNT,
        "user_timeout": socket.TCP_USER_TIMEOUT}


def options(sock):
    on = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert nodelay
    return {"on": bool(on), **{k: sock.getsockopt(socket.IPPROTO_TCP, v) for k, v in KEEP.items()}}


def both_legs(s, raw_backend):
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(b"x")
    backend.recv_exact(1)
    time.sleep(0.1 * harness.SLOW)      # the backend's is set when the flow has lived for 20 ms
    with s.leg(client) as c:
        found = [options(c)]
    with s.leg(backend) as b:
        found.append(options(b))
    return found


def test_keepalive_is_on_by_default_on_both_legs(stent, raw_backend):
    for leg in both_legs(stent.route(raw_backend.text), raw_backend):
        assert leg == {"on": True, "idle": 25, "interval": 10, "probes": 6, "user_timeout": 85_000}


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_half_close_lowers_a_longer_idle_time(stent, raw_backend, side):
    """Connection tracking forgets a half-closed flow after 60 s: its first probe must come before."""
    s = stent.route(raw_backend.text, client__keepalive="300s/10s/6", backend__keepalive="7s/10s/6")
    client, backend = s.connect(), raw_backend.accept()
    closing, other = (client, backend) if side == "client" else (backend, client)
    closing.half_close()
    other.expect_fin()
    time.sleep(0.1 * harness.SLOW)
    with s.leg(client) as c, s.leg(backend) as b:
        assert (options(c)["idle"], options(b)["idle"]) == (25, 7)


def test_each_leg_has_its_own_keepalive(stent, raw_backend):
    s = stent.route(raw_backend.text, client__keepalive="7s/2s/3", backend__keepalive="90s/5s/4",
                    backend__user_timeout="33s")
    client, backend = both_legs(s, raw_backend)
    assert client == {"on": True, "idle": 7, "interval": 2, "probes": 3, "user_timeout": 13_000}
    assert backend == {"on": True, "idle": 90, "interval": 5, "probes": 4, "user_timeout": 33_000}


def test_keepalive_off_is_off(stent, raw_backend):
    client, backend = both_legs(stent.route(raw_backend.text, client__keepalive="off"), raw_backend)
    assert (client["on"], client["user_timeout"]) == (False, 0)
    assert backend["on"]


def test_user_timeout_off_leaves_the_kernels(stent, raw_backend):
    for leg in both_legs(stent.route(raw_backend.text, user_timeout="off"), raw_backend):
        assert (leg["on"], leg["user_timeout"]) == (True, 0)


def talk(s, address):
    peer = harness.connect(address)
    peer.send_all(b"hello")
    assert peer.recv_exact(5) == b"hello"
    peer.close()


def test_ipv6_and_ipv4_on_one_port(stent, echo):
    port = harness.free_port()
    s = stent(f"[route t]\nlisten = :{port}\nbackend = {echo.text}\n")
    talk(s, f"127.0.0.1:{port}")
    talk(s, f"[::1]:{port}")
    ends = sorted(s.flow_end()["client"] for _ in range(2))	# either may end first
    assert ends[0].startswith("127.0.0.1:") and ends[1].startswith("[::1]:")


def test_ipv6_backend(stent):
    with harness.EchoBackend(host="::1") as echo:
        s = stent.route(echo.text)
        talk(s, s.address)
        assert s.flow_end()["backend"] == echo.text


def test_a_v6_listener_leaves_v4_to_others(stent, echo):
    port = harness.free_port()
    s = stent(f"[route six]\nlisten = [::]:{port}\nbackend = {echo.text}\n[route four]\nlisten = 0.0.0.0:{port}\nbackend = {echo.text}\n")
    talk(s, f"127.0.0.1:{port}")
    assert s.flow_end()["route"] == "four"
    talk(s, f"[::1]:{port}")
    assert s.flow_end()["route"] == "six"


def test_several_listeners_of_a_route(stent, echo, tmp_path):
    a, b = harness.free_port(), harness.free_port()
    s = stent(f"[route t]\nlisten = 127.0.0.1:{a}, 127.0.0.1:{b}, unix:{tmp_path}/in.sock\nbackend = {echo.text}\n")
    for address in (f"127.0.0.1:{a}", f"127.0.0.1:{b}", f"unix:{tmp_path}/in.sock"):
        talk(s, address)


def test_unix_sockets_on_both_sides(stent, tmp_path):
    with harness.EchoBackend(path=tmp_path / "back.sock") as echo:
        s = stent(f"[route t]\nlisten = unix:{tmp_path}/front.sock\nbackend = {echo.text}\n")
        talk(s, f"unix:{tmp_path}/front.sock")
        end = s.flow_end()
        assert (end["client"], end["backend"], end["reason"]) == ("unix", "unix", "client-fin")
        data = os.urandom(5_000_000)
        peer = harness.connect(f"unix:{tmp_path}/front.sock")
        import threading
        sender = threading.Thread(target=lambda: (peer.send_all(data, timeout=20), peer.half_close()))
        sender.start()
        assert peer.recv_all(timeout=20) == data
        sender.join()
    s.stop()
    assert not (tmp_path / "front.sock").exists()


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(stent, echo, tmp_path):
    path = tmp_path / "in.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    s = stent(f"[route t]\nlisten = unix:{path}\nbackend = {echo.text}\n")
    talk(s, f"unix:{path}")
    second = harness.run_stent("relay", f"unix:{path}", echo.text, "--user=root", "--admin=off", "--control=off")
    assert second.returncode == 1
    assert "address already in use" in second.stderr
    talk(s, f"unix:{path}")


def test_a_unix_socket_of_the_successor_is_left_alone(stent, echo, tmp_path):
    """One that drains may end after the next one has begun to listen at the same path."""
    address = f"unix:{tmp_path}/in.sock"
    old = stent.route(echo.text, listen=address, settings={"drain_timeout": "30s"})
    last = old.connect()
    last.send_all(b"x")
    last.recv_exact(1)
    old.signal(signal.SIGTERM)
    old.wait_logged("draining")
    stent.route(echo.text, listen=address)
    last.close()
    assert old.wait() == 0
    talk(old, address)


def handed_over(stent, ini, **sockets):
    """As systemd hands them over: descriptors from 3, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES."""
    fds = [sock.fileno() for group in sockets.values() for sock in group]
    names = ":".join(name for name, group in sockets.items() for _ in group)
    script = "".join(f"exec {i}<&{fd}; " for i, fd in enumerate(fds, 3)) + \
        f'LISTEN_PID=$$ LISTEN_FDS={len(fds)} LISTEN_FDNAMES={names} exec "$@"'
    return stent(ini, pass_fds=fds, prefix=("bash", "-c", script, "bash"))


def listening(host=harness.HOST):
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def test_a_socket_from_systemd(stent, echo):
    with listening() as web:
        s = handed_over(stent, f"[route t]\nlisten = fd:web\nbackend = {echo.text}\n", web=[web])
        talk(s, web.getsockname())
        assert s.flow_end()["reason"] == "client-fin"


def test_all_sockets_that_systemd_gave_one_name(stent, echo):
    """A unit with ListenStream= for IPv4 and for IPv6 hands over two; one that no route takes is told of."""
    with listening() as four, listening("::1") as six, listening() as other:
        s = handed_over(stent, f"[route t]\nlisten = fd:web\nbackend = {echo.text}\n", web=[four, six], other=[other])
        for sock in (four, six):
            talk(s, sock.getsockname()[:2])
            s.flow_end(reason="client-fin")
        assert len(s.wait_logged("no route listens on.*fd:other")) == 1


def test_a_socket_that_systemd_did_not_hand_over(stent):
    run = harness.run_stent("relay", "fd:nothing", "127.0.0.1:1", "--user=root", "--admin=off", "--control=off")
    assert run.returncode == 1
    assert "FileDescriptorName=" in run.stderr


def test_backends_are_tried_in_order(stent, echo):
    dead = harness.free_port()
    s = stent.route(f"127.0.0.1:{dead}, {echo.text}")
    talk(s, s.address)
    assert s.flow_end()["backend"] == echo.text
    assert s.wait_logged("backend-refused")


def seconds_to_talk(s):
    began = time.monotonic()
    talk(s, s.address)
    return time.monotonic() - began


def test_a_black_hole_in_front_costs_a_moment_once(stent, echo):
    with harness.BlackHole() as hole:
        s = stent.route(f"{hole.text}, {echo.text}")
        assert 0.25 <= seconds_to_talk(s) < 1 * harness.SLOW
        assert s.flow_end()["backend"] == echo.text
        for _ in range(3):
            assert seconds_to_talk(s) < 0.25 * harness.SLOW
            assert s.flow_end()["backend"] == echo.text
        assert s.wait_logged(f"backend {hole.text}: backend-connect-timeout .*no answer in time")


def test_of_two_backends_that_are_slow_the_first_to_answer_gets_the_flow(stent):
    """The first one answers its second SYN, after a second, while the other is a black hole, too."""
    with harness.BlackHole() as slow, harness.BlackHole() as hole:
        s = stent.route(f"{slow.text}, {hole.text}", connect_timeout="10s")
        with s.connect() as client:
            client.send_all(b"x")
            harness.wait_for(lambda: syn_sent_to(hole.port), what="the attempt beside the first")
            slow.open()
            with slow.accept() as backend:
                assert backend.recv_exact(1) == b"x"
            harness.wait_for(lambda: not syn_sent_to(hole.port), what="the end of the attempt that lost")
        assert s.flow_end()["backend"] == slow.text


def syn_sent_to(port):
    """Attempts under way to a port of loopback, by the kernel's table; the fillers of a BlackHole are one."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows) - 1


def test_a_standby_waits_for_its_share_where_failover_after_is_off(stent, echo):
    with harness.BlackHole() as hole:
        s = stent.route(f"{hole.text}, {echo.text}", connect_timeout="2s", failover_after="off")
        assert 1 <= seconds_to_talk(s) < 3 * harness.SLOW
        assert s.flow_end()["backend"] == echo.text
        assert seconds_to_talk(s) < 0.25 * harness.SLOW		# it is tried last now


def test_one_that_refused_after_a_while_is_tried_first_again(stent, echo):
    """Its refusal was an answer, on a long way or behind a lost packet: the standby gets no more flows once it is back."""
    with harness.BlackHole() as primary:
        port = primary.port
        s = stent.route(f"{primary.text}, {echo.text}", connect_timeout="10s", failover_after="off")
        client = s.connect()
        harness.wait_for(lambda: syn_sent_to(port), what="the attempt")
    with client:				# the second SYN is refused, after a second
        client.send_all(b"x")
        assert client.recv_exact(1) == b"x"
    assert s.flow_end()["backend"] == echo.text
    with harness.RawBackend(port=port) as primary, s.connect() as client:
        client.send_all(b"x")
        assert primary.accept().recv_exact(1) == b"x"


def test_what_was_tried_last_is_tried_all_the_same(stent, echo):
    with harness.BlackHole() as hole:
        dead = harness.free_port()
        s = stent.route(f"{hole.text}, 127.0.0.1:{dead}", connect_timeout="600ms")
        s.expect_refusal(timeout=5)
        assert s.flow_end()["reason"] == "backend-connect-timeout"
        hole.open()
        with s.connect() as client:
            client.send_all(b"x")
            assert hole.accept().recv_exact(1) == b"x"


@pytest.mark.lab
def test_the_next_address_of_a_name_is_tried_beside_one_that_is_silent(stent, tmp_path):
    hosts = tmp_path / "hosts"
    with harness.EchoBackend(host="127.0.0.2") as good, harness.BlackHole(host="127.0.0.3", port=good.port), \
            harness.BlackHole(host="::1", port=good.port):
        hosts.write_text("127.0.0.3 db.test\n::1 db.test\n127.0.0.2 db.test\n")
        s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = db.test:{good.port}\nfailover_after = off\n",
                  prefix=harness.privately("/etc/hosts", hosts))
        assert seconds_to_talk(s) < 1.5 * harness.SLOW
        assert s.flow_end()["backend"] == good.text
        assert seconds_to_talk(s) < 0.25 * harness.SLOW
        assert s.flow_end()["backend"] == good.text


@pytest.mark.lab
def test_no_local_port_is_left(stent, tmp_path):
    """One local port in a network of its own: the first client's flow has it."""
    port = harness.free_port()
    with harness.RawBackend(path=tmp_path / "backend") as backend:
        s = stent(f"[route out]\nlisten = unix:{tmp_path / 'out'}\nbackend = 127.0.0.1:{port}\n"
                  f"[route in]\nlisten = 127.0.0.1:{port}\nbackend = {backend.text}\n",
                  prefix=("unshare", "-n", "bash", "-c", "ip link set lo up && "
                          "echo 33000 33000 >/proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"", "bash"))
        with harness.connect(f"unix:{tmp_path / 'out'}") as first:
            first.send_all(b"x")
            with backend.accept() as peer:
                assert peer.recv_exact(1) == b"x"
                with harness.connect(f"unix:{tmp_path / 'out'}") as second:
                    second.expect_fin()		# a UNIX socket knows no reset
                assert s.wait_logged(f"no local port toward 127.0.0.1:{port}: ")


def test_no_backend_answers_in_time(stent):
    with harness.BlackHole() as hole:
        s = stent.route(hole.text, connect_timeout="500ms")
        s.expect_refusal(timeout=2)
        end = s.flow_end()
        assert end["reason"] == "backend-connect-timeout"
        assert 0.45 < end["seconds"] < 1.5 * harness.SLOW


def test_a_name_in_hosts_and_all_its_addresses(stent, echo):
    s = stent.route(f"localhost:{echo.port}")     # ::1 refuses, 127.0.0.1 answers
    talk(s, s.address)
    assert s.flow_end()["backend"] == echo.text


def test_a_name_that_nobody_knows(stent):
    s = stent.route("no-such-host.invalid:5432", connect_timeout="3s")
    s.expect_refusal(timeout=5)
    assert s.flow_end()["reason"] == "backend-lookup"


@pytest.mark.lab
def test_hosts_is_read_again_when_it_changes(stent, tmp_path):
    hosts = tmp_path / "hosts"
    with harness.EchoBackend(host="127.0.0.2") as one, harness.EchoBackend(host="127.0.0.3", port=one.port) as two:
        hosts.write_text("127.0.0.2 db.test\n")
        s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = db.test:{one.port}\ndns_ttl = 100ms\n",
                  prefix=harness.privately("/etc/hosts", hosts))
        talk(s, s.address)
        assert s.flow_end()["backend"] == one.text
        hosts.write_text("127.0.0.3 db.test\n")
        time.sleep(0.3)
        talk(s, s.address)
        assert s.flow_end()["backend"] == two.text


@pytest.mark.lab
def test_a_name_server_that_is_no_address_is_a_log_line(stent, tmp_path):
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver nobody\n")
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = db.invalid:5432\nconnect_timeout = 500ms\n",
              prefix=harness.privately("/etc/resolv.conf", resolv))
    s.expect_refusal()
    assert s.wait_logged("/etc/resolv.conf: nameserver nobody is not an IP address")[0]["level"] == "warn"
    s.stop()
    assert s.other_lines == []


def stop_it(s):
    """All its threads."""
    def states():
        for task in os.listdir(f"/proc/{s.pid}/task"):
            with open(f"/proc/{s.pid}/task/{task}/stat") as f:
                yield f.read().rsplit(")", 1)[1].split()[0]
    s.signal(signal.SIGSTOP)
    harness.wait_for(lambda: set(states()) == {"T"}, what="stent to stop")


def come_and_go(s, how, n=3):
    """Clients that are gone before stent accepts them, as a balancer's checks may be."""
    stop_it(s)
    for _ in range(n):
        client = s.connect()
        client.reset() if how == "reset" else client.close()
    s.signal(signal.SIGCONT)
    return [s.flow_end()["reason"] for _ in range(n)]


@pytest.mark.parametrize("protocol", ["tcp", "auto", "mysql"])
def test_nobody_is_dialled_for_a_client_that_has_reset(stent, protocol):
    with harness.RawBackend() as backend:
        s = stent.route(backend.text, protocol=protocol)
        assert set(come_and_go(s, "reset")) == {"client-reset"}
        backend.expect_no_connection()


@pytest.mark.parametrize("protocol", ["postgres", "mysql", "redis", "websocket", "sse"])
def test_nobody_is_dialled_for_a_client_that_closed_where_clients_have_to_speak(stent, protocol):
    with harness.RawBackend() as backend:
        s = stent.route(backend.text, protocol=protocol)
        assert set(come_and_go(s, "fin")) == {"client-fin"}
        backend.expect_no_connection()


def test_a_client_that_closes_its_half_at_once_hears_the_servers_first_word(stent):
    with harness.RawBackend() as backend:
        s = stent.route(backend.text)
        stop_it(s)
        with s.connect() as client:
            client.half_close()
            s.signal(signal.SIGCONT)
            with backend.accept() as server:
                server.send_all(b"220 hello")
            assert client.recv_all() == b"220 hello"


def test_a_client_that_sent_its_words_and_a_fin_is_served(stent):
    with harness.RawBackend() as backend:
        s = stent.route(backend.text, protocol="redis")
        stop_it(s)
        with s.connect() as client:
            client.send_all(b"PING\r\n")
            client.half_close()
            s.signal(signal.SIGCONT)
            with backend.accept() as server:
                assert server.recv_all() == b"PING\r\n"


def test_a_client_that_closes_while_its_backend_is_dialled(stent):
    with harness.BlackHole() as hole:
        s = stent.route(hole.text, protocol="mysql")
        client = s.connect()
        harness.wait_for(lambda: syn_sent_to(hole.port), what="the attempt")
        client.close()
        assert s.flow_end()["reason"] == "client-fin"
        harness.wait_for(lambda: not syn_sent_to(hole.port), what="its end")


def test_a_unix_client_that_has_gone(stent, tmp_path):
    with harness.RawBackend() as backend:
        s = stent(f"[route t]\nlisten = unix:{tmp_path / 's'}\nbackend = {backend.text}\n")
        stop_it(s)
        harness.connect(f"unix:{tmp_path / 's'}").close()
        s.signal(signal.SIGCONT)
        assert s.flow_end()["reason"] == "client-fin"
        backend.expect_no_connection()


def ends(s, *names):
    """Clients reset each: how all the flows ended that came of one. Not at once: it may try again as fast."""
    found = [s.flow_end() for _ in names]
    assert sorted(end["reason"] for end in found) == sorted(names)
    assert all(end["seconds"] >= 0.05 for end in found)
    s.expect_no_event("flow end")


@pytest.mark.lab
def test_a_flow_that_a_name_leads_home_is_denied(stent, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 home\n")
    port = harness.free_port()
    s = stent(f"[route t]\nlisten = :{port}\nbackend = home:{port}\n", prefix=harness.privately("/etc/hosts", hosts))
    s.expect_refusal()
    ends(s, "denied", "backend-reset")
    assert s.wait_logged("route t: loop: a flow of our own came back from 127.0.0.1:.*Name another backend")


@pytest.mark.lab
@pytest.mark.parametrize("sent", ["v1", "v2"])
def test_a_flow_that_a_name_leads_home_is_denied_with_headers_too(stent, tmp_path, sent):
    """The header names the first client, but what counts is whose connection it is."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 home\n")
    port = harness.free_port()
    s = stent(f"[route t]\nlisten = :{port}\nbackend = home:{port}\naccept_proxy = accept\nproxy_from = 127.0.0.0/8\nsend_proxy = {sent}\n",
              prefix=harness.privately("/etc/hosts", hosts))
    with s.connect() as client:
        client.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello")
        client.expect_reset()
    ends(s, "denied", "backend-reset")
    assert s.wait_logged("route t: loop: a flow of our own came back from 127.0.0.1:.*Name another backend")


@pytest.mark.lab
def test_a_flow_that_a_redirection_leads_home_is_denied(stent, tmp_path):
    """And not the one of another route before it."""
    port = harness.free_port()
    s = stent(f"[route out]\nlisten = unix:{tmp_path / 'out'}\nbackend = 127.0.0.9:{port}\n"
              f"[route in]\nlisten = 127.0.0.1:{port}\nbackend = original\n",
              prefix=("unshare", "-n", "bash", "-c", "ip link set lo up && nft 'table ip t { chain out { "
                      f"type nat hook output priority -100; ip daddr 127.0.0.9 tcp dport {port} redirect to :{port}; }}; }}' "
                      '&& exec "$@"', "bash"))
    with harness.connect(f"unix:{tmp_path / 'out'}") as client:
        client.expect_fin()		# a UNIX socket knows no reset
    ends(s, "denied", "backend-reset", "backend-reset")


@pytest.mark.lab
def test_a_client_with_a_port_that_was_once_our_own_is_served(stent):
    """On one machine with a redirected client the kernel gives both their ports, in turn."""
    script = ("import contextlib, socket, struct\n"
              "reset = socket.SO_LINGER, struct.pack('ii', 1, 0)    # no port rests\n"
              "server = socket.create_server(('127.0.0.9', 7777))\n"
              "server.settimeout(5)\n"
              "for _ in range(30):\n"
              "    with socket.create_connection(('127.0.0.9', 7777), timeout=5) as client:\n"
              "        at_server, _ = server.accept()\n"
              "        at_server.settimeout(5)\n"
              "        at_server.sendall(b'x')\n"
              "        assert client.recv(1) == b'x'\n"
              "        client.setsockopt(socket.SOL_SOCKET, *reset)\n"
              "    with at_server, contextlib.suppress(ConnectionResetError):\n"
              "        at_server.recv(1)\n"
              "print('served')\n")
    s = stent("[route t]\nlisten = 127.0.0.1:7000\nbackend = original\n",
              prefix=("unshare", "-n", "bash", "-c", "ip link set lo up && sysctl -qw net.ipv4.ip_local_port_range='40000 40019' "
                      "&& nft 'table ip t { chain o { type nat hook output priority -100; "
                      "meta skuid 65534 tcp dport 7777 redirect to :7000; }; }' && exec \"$@\"", "bash"))
    got = subprocess.run(["nsenter", "-n", "-t", str(s.pid), "setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3",
                          "-c", script], capture_output=True, text=True, timeout=20 * harness.SLOW)
    assert got.stdout == "served\n", got


def test_a_unix_listener_that_is_reached_by_another_path_is_denied(stent, tmp_path):
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    s = stent(f"[route t]\nlisten = unix:{tmp_path / 'real'}\nbackend = unix:{tmp_path / 'alias'}\n")
    with harness.connect(f"unix:{tmp_path / 'real'}") as client:
        client.expect_fin()
    assert s.flow_end(reason="denied")


def test_one_route_may_lead_to_another(stent, echo, tmp_path):
    ports = [harness.free_port() for _ in range(3)]
    s = stent(f"[route a]\nlisten = 127.0.0.1:{ports[0]}\nbackend = 127.0.0.1:{ports[1]}\n"
              f"[route b]\nlisten = :{ports[1]}\nbackend = unix:{tmp_path / 'c'}\n"
              f"[route c]\nlisten = unix:{tmp_path / 'c'}\nbackend = localhost:{ports[2]}\n"
              f"[route d]\nlisten = 127.0.0.1:{ports[2]}\nbackend = {echo.text}\n")
    talk(s, f"127.0.0.1:{ports[0]}")


def test_a_listener_that_is_taken_is_an_error_that_says_so(stent, echo):
    run = harness.run_stent("relay", echo.text, "127.0.0.1:1", "--user=root", "--admin=off", "--control=off")
    assert run.returncode == 1
    assert echo.text in run.stderr and "address already in use" in run.stderr


def test_who_starts_it_is_told_where_the_log_is(echo, tmp_path):
    log = tmp_path / "stent.log"
    run = harness.run_stent("relay", echo.text, "127.0.0.1:1", "--user=root", "--admin=off", "--control=off", f"--log=file:{log}")
    assert run.returncode == 1
    assert run.stderr == f"stent: did not start; the log {log} says why\n"
    assert "address already in use" in log.read_text()


def test_original_destination_without_redirection_is_denied(stent):
    s = stent.route("original")
    s.expect_refusal()
    assert s.flow_end()["reason"] == "denied"


@pytest.mark.lab
def test_a_redirected_flow_goes_where_it_wanted_to(stent, tmp_path):
    name = f"stent-{os.getpid()}"
    run = lambda *c: subprocess.run(c, check=True, capture_output=True)
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        inside = ("ip", "netns", "exec", name)
        # The client is another user than the relay: whose own connections must not be redirected to it again.
        run(*inside, "nft", "add table ip t; add chain ip t o { type nat hook output priority -100; }; "
            "add rule ip t o meta skuid 65534 tcp dport 7777 redirect to :7000")
        s = stent("[route t]\nlisten = 127.0.0.1:7000\nbackend = original\n", prefix=inside)
        script = ("import socket,threading\n"
                  "l = socket.socket(); l.bind(('127.0.0.9', 7777)); l.listen()\n"
                  "c = socket.create_connection(('127.0.0.9', 7777), timeout=5)\n"
                  "c.sendall(b'hi')\n"
                  "b, _ = l.accept()\n"
                  "b.sendall(b.recv(2) + b' there')\n"
                  "print(c.recv(8).decode())\n")
        got = subprocess.run([*inside, "setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script],
                             capture_output=True, text=True, timeout=20)
        assert got.stdout == "hi there\n", got
        assert s.flow_end()["backend"] == "127.0.0.9:7777"
        s.stop()
    finally:
        run("ip", "netns", "del", name)

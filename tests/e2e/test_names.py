"""
Backends by name: name servers of our own on loopback, which answer, change
their mind, fall silent, lie, or say that there is no such name. stent runs under
a private mount of /etc/resolv.conf, so that the machine's own stays as it is.
"""

import contextlib
import select
import socket
import struct
import threading
import time

import harness
import pytest

pytestmark = pytest.mark.lab

A, CNAME, AAAA = 1, 5, 28
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5
KINDS = {A: socket.AF_INET, AAAA: socket.AF_INET6}
AGE = 0.3			# dns_ttl, in seconds
PATIENCE = 0.2			# of a flow with an answer, when old addresses are there (src/net/resolve.c)
SECOND_KIND = 0.5		# what addresses of one kind wait for those of the other
WAIT = 1.0			# for a server, before the next one is asked (src/net/dns_query.c)
FAILED = 2.0			# a name that was not found is not asked for again


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


class NameServer:
    """
    Answers, by UDP and TCP, questions for what `names` has: an address, a list of
    them, or the name that a CNAME points to (as "=NAME"). The attributes are for the test to set.
    """

    def __init__(self, tcp=True, **names):
        self.names = {f"{name}.test": address for name, address in names.items()}
        self.silent, self.error = False, 0
        self.silent_for = set()		# (name, kind)
        self.error_for = {}		# (name, kind): rcode
        self.keeps_case = self.ignores_case = True
        self.udp_max = 65535		# bytes; what is longer is cut, to be asked for by TCP
        self.answers_tcp = tcp
        self.forge = None		# query, answer -> packets that go out before the answer
        self.asked = []			# names, one an IPv4 question
        self.questions = []		# (name as it was spelled, kind, port, by TCP), one a question
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.bind((harness.HOST, harness.free_port()))
        self.tcp.bind(self.sock.getsockname())
        if tcp:
            self.tcp.listen()
        self.address = "{}:{}".format(*self.sock.getsockname())
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            ready, _, _ = select.select([self.sock, self.tcp] if self.answers_tcp else [self.sock], [], [])
            if self.tcp in ready:
                self._serve_tcp()
            if self.sock not in ready:
                continue
            query, client = self.sock.recvfrom(600)
            if not query:
                return
            answer = self._answer(query, client, False)
            if answer is None:
                continue
            if len(answer) > self.udp_max:
                end = answer.index(b"\0", 12) + 5
                fit = (self.udp_max - end) // 16		# records of A
                answer = answer[:2] + bytes([answer[2] | 2]) + answer[3:6] + struct.pack(">HHH", fit, 0, 0) + answer[12:end + fit * 16]
            for packet in self.forge(query, answer) if self.forge else []:
                self.sock.sendto(packet, client)
            self.sock.sendto(answer, client)

    def _serve_tcp(self):
        """One question a connection, and its answer in pieces."""
        peer, client = self.tcp.accept()
        with peer, contextlib.suppress(OSError):
            peer.settimeout(5)
            query = peer.recv(600)
            assert struct.unpack(">H", query[:2])[0] == len(query) - 2
            answer = self._answer(query[2:], client, True)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (struct.pack(">H", len(answer))[:1], struct.pack(">H", len(answer))[1:] + answer[:40], answer[40:]):
                peer.sendall(piece)

    def _find(self, name):
        for known, what in self.names.items():
            if known == name or (self.ignores_case and known.lower() == name.lower()):
                return what
        return None

    def _answer(self, query, client, by_tcp):
        labels, i = [], 12
        while query[i]:
            labels.append(query[i + 1:i + 1 + query[i]].decode())
            i += 1 + query[i]
        spelled, (kind,) = ".".join(labels), struct.unpack(">H", query[i + 1:i + 3])
        name = spelled.lower()
        self.questions.append((spelled, kind, client[1], by_tcp))
        if kind == A:
            self.asked.append(name)
        if self.silent or (name, kind) in self.silent_for:
            return None
        question = query[12:i + 5] if self.keeps_case else query[12:i + 5].lower()
        found, at, records = self._find(spelled), b"\xc0\x0c", []
        error = self.error or self.error_for.get((name, kind), 0 if found else NXDOMAIN)
        while isinstance(found, str) and found.startswith("="):
            target = wire(found[1:].upper())
            records.append(at + struct.pack(">HHIH", CNAME, 1, 60, len(target)) + target)
            at, found = target, self._find(found[1:])
        for address in [found] if isinstance(found, str) else found or []:
            if (":" in address) == (kind == AAAA):
                packed = socket.inet_pton(KINDS[kind], address)
                records.append(at + struct.pack(">HHIH", kind, 1, 60, len(packed)) + packed)
        records = [] if error else records
        return query[:2] + struct.pack(">HHHHH", 0x8180 | error, 1, len(records), 0, 0) + question + b"".join(records)

    def close(self):
        self.sock.sendto(b"", self.sock.getsockname())
        self.thread.join(5)
        self.sock.close()
        self.tcp.close()


@pytest.fixture
def resolv(tmp_path):
    return tmp_path / "resolv.conf"


@pytest.fixture
def server(resolv):
    with contextlib.closing(NameServer(one="127.0.0.2", two="127.0.0.2")) as server:
        resolv.write_text(f"nameserver {server.address}\n")
        yield server


@pytest.fixture
def start(stent, server, echoes, resolv):
    def start(*names, **keys):
        backend = ", ".join(f"{name if '.' in name else name + '.test'}:{echoes[0].port}" for name in names)
        return start_as_written(backend, **keys)

    def start_as_written(backend, **keys):
        keys = {"dns_ttl": f"{int(AGE * 1000)}ms", **keys}
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
        return stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = {backend}\n{lines}",
                     prefix=harness.privately("/etc/resolv.conf", resolv))
    start.as_written = lambda name, **keys: start_as_written(f"{name}:{echoes[0].port}", **keys)
    return start


@pytest.fixture
def echoes():
    """One port, two addresses."""
    with harness.EchoBackend(host="127.0.0.2") as one, harness.EchoBackend(host="127.0.0.3", port=one.port) as two:
        yield one, two


def talk(s):
    """A flow to its end; which backend it had, and how long it took to get there."""
    began = time.monotonic()
    with s.connect() as peer:
        peer.send_all(b"ping", timeout=10)
        assert peer.recv_exact(4, timeout=10) == b"ping"
        took = time.monotonic() - began
    return s.flow_end()["backend"], took


def test_a_name_is_asked_for_again_when_its_addresses_have_aged(start, server, echoes):
    s = start("one", dns_ttl="1h")
    for _ in range(3):
        assert talk(s)[0] == echoes[0].text
    assert server.asked == ["one.test"]
    s = start("one")
    assert talk(s)[0] == echoes[0].text
    server.names["one.test"] = "127.0.0.3"
    time.sleep(AGE + 0.1)
    assert talk(s)[0] == echoes[1].text			# the first flow already


def test_a_name_server_that_falls_silent_takes_no_backend_along(start, server, echoes):
    s = start("one", "two", connect_timeout="3s")
    talk(s)
    server.silent = True
    time.sleep(AGE + 0.1)
    for i in range(6):
        backend, took = talk(s)
        assert backend == echoes[0].text
        assert took < PATIENCE + 0.8 * harness.SLOW, i
    assert server.asked.count("one.test") == 2		# the question is under way, and no second one
    s.wait_logged("cannot look up backend name one.test: using the addresses found before", timeout=10)
    server.silent, server.names["one.test"] = False, "127.0.0.3"
    harness.wait_for(lambda: talk(s)[0] == echoes[1].text, 20, "the new address", step=0.1)


def test_addresses_that_are_known_serve_though_the_time_is_short(start, server, echoes):
    """Each of three backends has a third of connect_timeout, which is less than the patience."""
    s = start("one", "one", "one", connect_timeout="550ms")
    talk(s)
    server.silent = True
    time.sleep(AGE + 0.1)
    assert talk(s)[0] == echoes[0].text
    assert not s.logged("no reply from the resolver in time")


@pytest.mark.parametrize("error", [SERVFAIL, NXDOMAIN, REFUSED])
def test_an_answer_that_fails_leaves_what_was_known(start, server, echoes, error):
    s = start("one", dns_ttl="2s")
    talk(s)
    server.error = error
    time.sleep(2.1)
    for _ in range(5):
        assert talk(s)[0] == echoes[0].text
    assert len(s.wait_logged("cannot look up backend name one.test: using the addresses found before")) == 1


def test_a_name_that_was_never_known_ends_the_flow_in_time(start, server):
    s = start("none", connect_timeout="1s")
    s.expect_refusal()
    assert s.flow_end()["reason"] == "backend-lookup"
    assert s.wait_logged(r"cannot look up backend name none.test \(no such name\)")
    server.silent = True
    s = start("none", connect_timeout="1s")
    s.expect_refusal()
    end = s.flow_end()
    assert end["reason"] == "backend-lookup" and end["seconds"] > 0.9


def test_it_stops_at_once_while_a_question_is_under_way(start, server):
    """And frees what belongs to it, says a sanitizer's build."""
    s = start("one")
    talk(s)
    server.silent = True
    time.sleep(AGE + 0.1)
    talk(s)
    began = time.monotonic()
    s.stop()
    assert time.monotonic() - began < 2 * harness.SLOW
    assert not s.logged("cannot look up")		# it was not waited for


# --- the search ---

SEARCH = "search a.example b.example\noptions ndots:5\n"


@pytest.fixture
def strange(server, resolv, echoes):
    """db.a.example is ours, and has one address; db is somebody else's, whose server is up."""
    resolv.write_text(f"nameserver {server.address}\n{SEARCH}")
    server.names = {"db.a.example": "::1", "db": "127.0.0.3"}
    with harness.EchoBackend(host="::1", port=echoes[0].port) as ours:
        yield ours


def expect_failure(s):
    s.expect_refusal()
    assert s.flow_end()["reason"].startswith("backend-")


def test_the_first_name_with_any_address_wins(start, server, strange, echoes):
    s = start.as_written("db")
    assert talk(s)[0] == strange.text
    assert {name.lower() for name, *_ in server.questions} == {"db.a.example"}
    strange.close()
    expect_failure(s)			# it is down, and nobody else is meant
    server.names.pop("db.a.example")
    s = start.as_written("db")
    assert talk(s)[0] == echoes[1].text	# the next one that has an address
    assert [*dict.fromkeys(server.asked)] == ["db.a.example", "db.b.example", "db"]


@pytest.mark.parametrize("kind", [A, AAAA])
@pytest.mark.parametrize("failure", [SERVFAIL, REFUSED, None])
def test_a_name_that_cannot_be_asked_for_now_leads_to_no_other(start, server, strange, kind, failure):
    """Not even if the other kind of address is known not to be there."""
    server.names["db.a.example"] = []		# such is the name, without an address
    if failure is None:
        server.silent_for = {("db.a.example", kind)}
    else:
        server.error_for = {("db.a.example", kind): failure}
    s = start.as_written("db", connect_timeout="10s")
    s.expect_refusal(timeout=10)
    assert s.flow_end()["reason"] == "backend-lookup"
    assert set(server.asked) == {"db.a.example"}
    assert s.wait_logged(r"cannot look up backend name db \(no name server could answer for db.a.example\)")


@pytest.mark.parametrize("failure", [SERVFAIL, None])
def test_addresses_of_one_kind_do_without_the_other(start, server, echoes, failure):
    if failure is None:
        server.silent_for = {("one.test", AAAA)}
    else:
        server.error_for = {("one.test", AAAA): failure}
    s = start("one")
    backend, took = talk(s)
    assert backend == echoes[0].text and took < SECOND_KIND + 0.5 * harness.SLOW


@pytest.mark.parametrize("name, asked", [
    ("db.a.example.", ["db.a.example"]),
    ("db.", ["db"]),
    ("x.y", ["x.y.a.example", "x.y.b.example", "x.y"]),
    ("a.b.c.d.e.f", ["a.b.c.d.e.f", "a.b.c.d.e.f.a.example", "a.b.c.d.e.f.b.example"]),
    ("my_db", ["my_db.a.example", "my_db.b.example", "my_db"]),
])
def test_names_are_tried_in_the_order_of_libc(start, server, strange, name, asked):
    server.names = {}
    s = start.as_written(name)
    s.expect_refusal()
    assert s.flow_end()["reason"] == "backend-lookup"
    assert [*dict.fromkeys(server.asked)] == asked


def test_both_kinds_of_address_are_tried(start, server, strange, echoes):
    server.names["db.a.example"] = ["127.0.0.2", "::1"]
    s = start.as_written("db")
    assert talk(s)[0] == strange.text
    strange.close()
    assert talk(s)[0] == echoes[0].text


def test_a_chain_of_names(start, server, echoes):
    server.names |= {"www.test": "=web_1.test", "web_1.test": "=one.test"}
    assert talk(start("www"))[0] == echoes[0].text
    server.names["one.test"] = "=www.test"
    s = start("www")				# a loop
    s.expect_refusal()
    assert s.flow_end()["reason"] == "backend-lookup"


def test_this_machine_needs_no_name_server(stent, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("# nothing\n")
    with harness.EchoBackend() as here:
        s = stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = localhost:{here.port}\n",
                  prefix=harness.privately("/etc/hosts", hosts))
        assert talk(s)[0] == here.text


def test_hosts_goes_before_the_name_servers(stent, server, resolv, tmp_path, echoes):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.3 other ONE.test # not two.test\n")
    mounts = harness.privately("/etc/hosts", hosts) + harness.privately("/etc/resolv.conf", resolv)
    s = stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = one.test:{echoes[0].port}\n", prefix=mounts)
    assert talk(s)[0] == echoes[1].text
    assert server.asked == []


# --- the name servers ---

def test_another_name_server_is_asked_from_now_on(start, server, resolv, echoes):
    s = start("one")
    talk(s)
    with contextlib.closing(NameServer(one="127.0.0.3")) as other:
        resolv.write_text(f"nameserver {other.address}\n")
        time.sleep(AGE + 0.1)
        assert talk(s)[0] == echoes[1].text


@pytest.mark.parametrize("death", ["silent", "refused"])
def test_a_dead_first_name_server_costs_a_moment_once(start, server, resolv, echoes, death):
    with contextlib.ExitStack() as until:
        dead = NameServer(one="127.0.0.3")
        dead.silent = True
        resolv.write_text(f"nameserver {dead.address}\nnameserver {server.address}\n")
        if death == "refused":
            dead.close()
        else:
            until.callback(dead.close)
        s = start("one", dns_ttl="0s" if death == "silent" else "100ms")
        backend, took = talk(s)
        assert backend == echoes[0].text and took < 2.5
        assert took > WAIT * 0.9 if death == "silent" else took < WAIT
        before = len(dead.asked)
        for _ in range(3):
            assert talk(s)[0] == echoes[0].text
        assert len(dead.asked) == before		# the living one is asked first


def test_a_name_server_that_cannot_say_is_passed_by(start, server, resolv, echoes):
    with contextlib.closing(NameServer(one="127.0.0.3")) as unwilling:
        unwilling.error = REFUSED
        resolv.write_text(f"nameserver {unwilling.address}\nnameserver {server.address}\n")
        backend, took = talk(start("one"))
        assert backend == echoes[0].text and took < WAIT


def test_a_lost_packet_is_sent_again(start, server, echoes):
    server.silent = True
    s = start("one")
    with s.connect() as peer:
        harness.wait_for(lambda: server.questions, 5, "a question")
        server.silent = False
        peer.send_all(b"ping")
        assert peer.recv_exact(4) == b"ping"
    assert s.flow_end()["backend"] == echoes[0].text


def test_a_name_that_is_not_found_is_remembered_for_a_moment(start, server, echoes):
    s = start("new", dns_ttl="0s")
    expect_failure(s)
    asked = len(server.questions)
    for _ in range(5):
        expect_failure(s)
    assert len(server.questions) == asked
    server.names["new.test"] = "127.0.0.2"
    time.sleep(FAILED)
    assert talk(s)[0] == echoes[0].text


# --- what they say ---

def test_an_answer_too_long_for_udp_comes_by_tcp(start, server, echoes):
    server.udp_max = 512
    server.names["many.test"] = ["127.0.0.2"] * 50
    backend, took = talk(start("many"))
    assert backend == echoes[0].text and took < WAIT
    assert [by_tcp for _, kind, _, by_tcp in server.questions if kind == A] == [False, True]


@pytest.mark.parametrize("tcp", ["refused", "silent"])
def test_where_there_is_no_tcp_the_addresses_that_fitted_in_serve(start, resolv, echoes, tcp):
    with contextlib.closing(NameServer(tcp=tcp == "silent", many=["127.0.0.2"] * 50)) as server:
        server.udp_max, server.answers_tcp = 512, False
        resolv.write_text(f"nameserver {server.address}\n")
        backend, took = talk(start("many"))
        assert backend == echoes[0].text
        assert took < WAIT * (0.9 if tcp == "refused" else 2)


def forgeries(query, answer):
    """What is no answer to this question, all with the stranger's address."""
    lie = answer.replace(socket.inet_aton("127.0.0.2"), socket.inet_aton("127.0.0.3"))
    end = lie.index(b"\0", 12)
    yield bytes([lie[0] ^ 1]) + lie[1:]				# another id
    yield lie[:2] + bytes([lie[2] & 0x7f]) + lie[3:]		# a question
    yield lie[:13] + bytes([lie[13] ^ 3]) + lie[14:]		# another name
    yield lie[:end + 2] + bytes([lie[end + 2] ^ 2]) + lie[end + 3:]	# another type
    yield lie[:4] + b"\0\0" + lie[6:12] + lie[end + 5:]	# no question
    yield lie[:7] + bytes([lie[7] + 1]) + lie[8:]		# fewer records than it says
    yield from (lie[:n] for n in (0, 1, 11, 12, end, len(lie) - 1))


def test_forged_and_garbled_replies_are_ignored(start, server, echoes):
    def forge(query, answer):
        client = ("127.0.0.1", server.questions[-1][2])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:	# right in all but where it comes from
            stranger.sendto(answer.replace(socket.inet_aton("127.0.0.2"), socket.inet_aton("127.0.0.3")), client)
        return forgeries(query, answer)

    server.forge = forge
    backend, took = talk(start("one"))
    assert backend == echoes[0].text and took < WAIT


def test_questions_come_from_fresh_ports_in_random_spelling(start, server):
    server.names["long-name-of-many-letters.test"] = "127.0.0.2"
    s = start("long-name-of-many-letters", dns_ttl="0s")
    for _ in range(5):
        talk(s)
    spelled, _, ports, _ = zip(*server.questions)
    assert len(set(spelled)) > 5 and len({name.lower() for name in spelled}) == 1
    assert len(set(ports)) > 0.8 * len(ports)		# the kernel may choose one again
    assert set(server.asked) == {"long-name-of-many-letters.test"}


@pytest.mark.parametrize("server_does", ["keeps_case", "ignores_case"])
def test_a_name_server_that_does_not_keep_spelling_gets_names_as_written(start, server, echoes, server_does):
    """It repeats them in small letters, or knows a name in one spelling only."""
    setattr(server, server_does, False)
    server.names["db-Of-Ours.test"] = "127.0.0.2"
    s = start("db-Of-Ours", dns_ttl="0s")
    for _ in range(4):
        backend, took = talk(s)
        assert backend == echoes[0].text and took < WAIT
    assert {name for name, *_ in server.questions[4:]} == {"db-Of-Ours.test"}

"""Every close reason is one that some test causes: the table is held to the tests. Here are those that no other causes."""

import re

import harness

POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def reasons():
    """The words of the table in reason.c, without the one that stands for none."""
    table = (harness.ROOT / "src/relay/reason.c").read_text()
    words = re.findall(r'^\t\[REASON_\w+\] = "([a-z-]+)",', table, re.M)
    assert len(words) == table.count("\t[REASON_") and words[0] == "-"
    return words[1:]


def is_asserted(reason, text):
    """Named whole; or, where a test runs for both sides, by what follows the side's name."""
    what = re.sub("^(client|backend)-", "", reason)
    both = reason != what and (f'}}-{what}"' in text or f'["{what}"]' in text)
    return f'"{reason}"' in text or both


def test_each_reason_is_caused_by_a_test():
    files = [path for part in ("e2e", "lab") for path in (harness.ROOT / "tests" / part).glob("test_*.py")]
    files.append(harness.ROOT / "tests/unit/test_require.c")	# no program causes that one
    text = "\n".join(path.read_text() for path in files)
    assert len(reasons()) > 20
    assert [reason for reason in reasons() if not is_asserted(reason, text)] == []
    assert not is_asserted("client" + "-tired", text)


def test_a_backend_that_breaks_what_was_sent_early(stent, raw_backend):
    """The client was sent the start of a response early; what the backend then sends is no response."""
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat="20ms", client__heartbeat_kind="early")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(GET)
    assert client.recv_exact(3) == b"HTT"
    backend.send_all(b"this is not HTTP\r\n")
    try:
        client.recv_all()
        raise AssertionError("a FIN came: a stub that looks whole")
    except ConnectionResetError:
        pass
    assert s.flow_end()["reason"] == "backend-error"


def test_a_client_that_breaks_what_was_sent_ahead(stent, raw_backend):
    """The backend was given the zeros of the next chunk's size; what came then is none."""
    s = stent.route(raw_backend.text, protocol="http", backend__heartbeat="20ms", backend__heartbeat_kind="early")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(POST)
    assert backend.recv_exact(len(POST) + 2) == POST + b"00"
    client.send_all(b"not a size\r\n")
    try:
        backend.recv_all()
        raise AssertionError("a FIN came: a stub that looks whole")
    except ConnectionResetError:
        pass
    assert s.flow_end()["reason"] == "client-error"

"""The tools that the other tests trust: each expectation must fail when it should."""

import harness
import pytest

pytestmark = pytest.mark.plain


@pytest.fixture
def pair(raw_backend):
    with harness.connect(raw_backend.text) as client:
        yield client, raw_backend.accept()


def test_echo_and_its_fin(echo):
    with harness.connect(echo.text) as client:
        client.send_all(b"x" * 100_000)
        client.half_close()
        assert client.recv_all() == b"x" * 100_000


def test_unix_backend(tmp_path):
    with harness.RawBackend(path=tmp_path / "s") as backend, harness.connect(backend.text) as client:
        backend.accept().send_all(b"hi")
        assert client.recv_exact(2) == b"hi"


def test_a_reset_is_no_fin(pair):
    client, backend = pair
    backend.reset()
    with pytest.raises(ConnectionResetError):
        client.expect_fin()


def test_a_fin_is_no_reset(pair):
    client, backend = pair
    backend.close()
    with pytest.raises(AssertionError, match="FIN came"):
        client.expect_reset()


def test_a_reset_is_seen(pair):
    client, backend = pair
    client.reset()
    backend.expect_reset()


def test_bytes_are_neither(pair):
    client, backend = pair
    backend.send_all(b"late")
    with pytest.raises(AssertionError, match="late"):
        client.expect_fin()
    backend.send_all(b"late")
    with pytest.raises(AssertionError, match="late"):
        client.expect_quiet()


def test_waits_end(pair):
    client, _ = pair
    with pytest.raises(AssertionError, match="0 of 1"):
        client.recv_exact(1, timeout=0.05)
    with pytest.raises(AssertionError, match="no FIN"):
        client.recv_all(timeout=0.05)
    with pytest.raises(AssertionError, match="no RST"):
        client.expect_reset(timeout=0.05)


def test_ports_are_given_once():
    ports = [harness.free_port() for _ in range(50)]
    assert len(set(ports)) == 50

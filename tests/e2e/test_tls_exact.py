"""
Law 1 with TLS on the client's leg, the backend's, or both: tests of test_exact.py and test_endings.py again, those that
tell, and what only TLS has: a close_notify that is missing, records that are broken, a handshake in pieces.
"""

import harness
import pytest
import tls_ends
from test_endings import (  # noqa: F401
    test_a_reset_after_a_reply, test_a_side_that_replies_to_no_ping, test_bytes_held_back_are_delivered_before_a_reset)
from test_exact import (  # noqa: F401
    test_a_connection_without_a_byte, test_a_fin_arrives_as_a_fin, test_a_half_close_outlives_every_timer,
    test_a_half_close_stays_half_closed, test_a_pause_is_seen_in_time_though_the_other_leg_has_longer,
    test_a_reader_that_pauses_beyond_the_user_timeout_lives, test_a_reset_after_a_half_close_arrives,
    test_a_reset_arrives_as_a_reset, test_a_reset_in_the_middle_of_bulk, test_a_reset_that_comes_together_with_bytes,
    test_a_reset_while_the_other_side_is_stalled, test_a_stalled_receiver_stops_the_sender, test_both_directions_at_once,
    test_bulk_is_equal_by_hash_and_counted, test_bytes_before_a_reset_are_delivered, test_bytes_of_every_size_arrive_whole,
    test_last_bytes_before_a_close_arrive, test_many_flows_at_once_on_many_workers, test_the_server_may_speak_first)


SLOW = ("outlives", "pause", "stalled", "many_flows", "bulk_is_equal")		# these run with TLS on both legs only


def pytest_generate_tests(metafunc):
    slow = any(word in metafunc.function.__name__ for word in SLOW)
    # One leg is the same code as both: without a sanitizer only.
    one_leg = [pytest.param(legs, marks=pytest.mark.plain) for legs in tls_ends.LEGS if legs != "both"]
    metafunc.parametrize("legs", ["both"] if slow else ["both", *one_leg], indirect=True)


@pytest.fixture
def legs(request):
    return request.param


@pytest.fixture
def stent(tmp_path, certificates, legs):
    starter = tls_ends.TlsStarter(tmp_path, certificates, legs)
    yield starter
    starter.finish()


@pytest.fixture
def raw_backend(certificates, legs):
    with harness.RawBackend() if legs == "client" else tls_ends.TlsBackend(certificates) as backend:
        yield backend


@pytest.fixture
def echo(certificates, legs):
    with harness.EchoBackend() if legs == "client" else tls_ends.TlsEcho(certificates) as backend:
        yield backend

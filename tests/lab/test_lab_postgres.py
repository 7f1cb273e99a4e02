"""
PostgreSQL behind a firewall that forgets a flow after 4 s without payload:
probes do not help there, heartbeats do.
"""

import threading
import time

import harness
import psycopg2
import pytest
from servers.postgres import Postgres

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
FIREWALL = {"client": "fwc", "backend": "fwb"}
SECONDS = pytest.mark.parametrize("seconds", [9, pytest.param(20, marks=pytest.mark.long)])	# of a firewall's 4

ROUTES = {
    "beaten": (7001, "protocol = postgres\nheartbeat = 1s\nheartbeat_while_busy = on\n"),
    "always": (7002, "protocol = postgres\nheartbeat = 1s\nheartbeat_while_busy = on\nbackend.heartbeat_in_transaction = on\n"),
    "plain": (7003, "protocol = tcp\n"),
}


def stent_in(lab, stent, server):
    return stent("".join(
        f"[route {name}]\nlisten = {lab.address['stent']}:{port}\nbackend = {server.host}:{server.port}\n"
        f"keepalive = 1s/1s/3\nuser_timeout = 3s\n{keys}" for name, (port, keys) in ROUTES.items()),
        prefix=lab.inside("stent"))


def connect(lab, route):
    port = ROUTES[route][0]
    return lab.call("client", lambda: psycopg2.connect(
        host=lab.address["stent"], port=port, user="postgres", dbname="postgres", sslmode="disable",
        gssencmode="disable", tcp_user_timeout=3000))


class Session(threading.Thread):
    """Runs statements with a quiet time before the last; `result` is its row, or the error."""

    def __init__(self, connection, *statements, quiet=0):
        super().__init__(daemon=True)
        self.connection, self.statements, self.quiet = connection, statements, quiet
        self.result = None
        self.start()

    def run(self):
        try:
            with self.connection.cursor() as cursor:
                for statement in self.statements[:-1]:
                    cursor.execute(statement)
                time.sleep(self.quiet)
                cursor.execute(self.statements[-1])
                self.result = cursor.fetchone()[0]
        except psycopg2.Error as error:
            self.result = error


def session(lab, route, *statements, quiet=0, autocommit=True):
    connection = connect(lab, route)
    connection.autocommit = autocommit
    return Session(connection, *statements, quiet=quiet)


@pytest.fixture
def server(lab):
    postgres = Postgres(lab=lab)
    yield postgres
    postgres.close()


@SECONDS
@SIDES
def test_quiet_sessions_live_by_heartbeats_and_die_without(lab, stent, server, side, seconds):
    lab.forgetful(FIREWALL[side], count_only_payload=True)
    stent_in(lab, stent, server)
    query = f"select 7 from pg_sleep({seconds})"
    living = {
        "an idle session": session(lab, "beaten", "select 1", "select 7", quiet=seconds),
        "a long query": session(lab, "beaten", query),
        "a long query in a transaction": session(lab, "beaten", "select 1", query, autocommit=False),
        "an idle transaction, if so wished": session(lab, "always", "select 1", "select 7", quiet=seconds, autocommit=False),
    }
    dying = {
        "an idle session": session(lab, "plain", "select 1", "select 7", quiet=seconds),
        "a long query": session(lab, "plain", query),
    }
    # No heartbeat goes to a server that waits in a transaction; to its client they go on.
    in_transaction = session(lab, "beaten", "select 1", "select 7", quiet=seconds, autocommit=False)
    (dying if side == "backend" else living)["an idle transaction"] = in_transaction
    deadline = time.monotonic() + seconds + 8 * harness.SLOW
    for s in [*living.values(), *dying.values()]:
        s.join(max(deadline - time.monotonic(), 0))
    assert {name: s.result for name, s in living.items()} == dict.fromkeys(living, 7)
    assert all(s.result != 7 for s in dying.values()), {name: s.result for name, s in dying.items()}

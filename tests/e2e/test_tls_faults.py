"""
Faults of the machine within TLS: as test_machine_faults.py, each call to the kernel and each allocation fails once, those
of OpenSSL too, while a flow with TLS begins, goes on and ends.
"""

import collections
import contextlib

import harness
import pytest
import tls_faults
from servers.postgres import Postgres
from test_machine_faults import descriptors, wrapped  # noqa: F401
from tls_faults import WAYS, TlsScene, Way

MEMORY = 16		# allocations that fail in each test, without --long
STEP = 5		# of other calls without it
FIRST = 3		# allocations of the first flow of a process without it, 150 with it


@pytest.fixture(scope="module")
def backends(certificates):
    """By name of a conversation."""
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(tls_faults.Judge(way, certificates)) for name, way in WAYS.items()}
        found["tcp"] = stack.enter_context(tls_faults.Judge(Way("none"), certificates))
        server = Postgres()
        stack.callback(server.close)
        server.use_certificate(certificates.good, certificates.ca)
        found["postgres"] = server
        yield found


class Trials:
    """One stent; calls of a conversation fail in it, one after the other."""

    def __init__(self, stent, tmp_path, backends, certificates, name):
        self.backends, self.name = backends, name
        ports = {name: backend.port for name, backend in backends.items()}
        self.scene = TlsScene(stent, tmp_path, ports, certificates, name)
        self.s, self.faults = self.scene.s, self.scene.faults
        self.failed = collections.Counter()

    def warm_up(self):
        for _ in range(2):
            for each in self.scene.names:
                assert self.scene.run(each)
        self.before = harness.wait_for(lambda: not self.s.ask("flows") and descriptors(self.s))
        self.scene.stand_by(*self.scene.names)
        for backend in self.backends.values():
            getattr(backend, "wrong", []).clear()	# of flows of a test that failed

    def count(self, *calls):
        """How many calls a conversation has."""
        self.faults.set(1 << 40, 0, *calls)
        assert self.scene.run(self.name)
        return (1 << 40) - self.faults.left()

    def fail(self, number, variant, *calls):
        hit = self.scene.fail(self.name, number, variant, *calls)
        self.failed[hit] += 1
        for each in {self.name, "tcp"} & self.backends.keys():
            wrong = getattr(self.backends[each], "wrong", [])
            assert not wrong, f"call {number}, {hit}: the backend of {each} got {wrong}"
        return hit

    def end(self):
        print(self.failed)
        self.scene.others_go_on()
        for each in self.scene.names:
            assert self.scene.run(each)
        harness.wait_for(lambda: descriptors(self.s) <= self.before, what="its descriptors to be closed")


@pytest.fixture
def trials(stent, tmp_path, backends, certificates):
    return lambda name: Trials(stent, tmp_path, backends, certificates, name)


@pytest.fixture
def is_long(request):
    return request.config.getoption("--long")


KERNEL = [call for call in tls_faults.machine_faults.CALLS if call != "memory"]
NAMES = [*WAYS, "postgres"]


@pytest.mark.timeout(3600)		# with --long
@pytest.mark.parametrize("name", NAMES)
def test_each_call_of_a_flow_fails_once(trials, is_long, name):
    t = trials(name)
    t.warm_up()
    number, step = 1, 1 if is_long else STEP
    while t.failed[None] < 2:
        for variant in range(3 if is_long else 1):
            t.fail(number, (number + variant) % 3, *KERNEL)
        number += step
    assert t.failed.total() > 5
    t.end()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_each_allocation_of_a_flow_fails_once(trials, is_long, name):
    t = trials(name)
    t.warm_up()
    total = t.count("memory")
    assert total > 100
    for number in range(1, total + 1, 1 if is_long else max(total // MEMORY, 1)):
        t.fail(number, 0, "memory")
    t.end()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["client13", "both12"])
def test_each_allocation_of_the_first_flow_of_a_process_fails_once(trials, is_long, name):
    """What OpenSSL and stent make when they first need it is made the next time."""
    def fail(number):
        t = trials(name)
        if number == 0:
            return t.count("memory")
        t.fail(number, 0, "memory")
        t.before = 1 << 20
        t.end()
        assert t.s.stop() is None
    total = fail(0)
    for number in range(1, total + 1, max(total // (150 if is_long else FIRST), 1)):
        fail(number)

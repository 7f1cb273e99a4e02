"""Fixtures and options that all tests of the running program share; the tools behind them are in e2e/harness.py."""

import harness
import pytest


# The files that take longest. They begin first: a file runs in one process, and one that began last would be waited for.
LONGEST = ("test_websocket", "test_tls_exact", "test_redis", "test_http_streams", "test_tls_postgres", "test_rhythm", "test_page",
           "test_mysql", "test_exact", "test_postgres_clients", "test_postgres", "test_reload", "test_tls_streams", "test_tls_mysql",
           "test_tls_redis", "test_tls_mysql_passwords", "test_demo", "test_goodbyes", "test_testssl", "test_limits",
           "test_proxy_protocol", "test_admin", "test_drain", "test_tls_relay")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--note-failed", metavar="FILE", help="write the names of tests that failed, but not by a sanitizer's report")


def pytest_configure(config):
    noted = config.getoption("--note-failed")
    if noted and not hasattr(config, "workerinput"):
        config.pluginmanager.register(NoteFailed(noted))


class NoteFailed:
    """For tests/stages.sh, which tries them once more, alone."""

    def __init__(self, path):
        self.path = path

    def pytest_runtest_logreport(self, report):
        if report.failed and "Sanitizer" not in report.longreprtext:
            with open(self.path, "a", encoding="utf-8") as f:
                f.write(f"{report.nodeid}\n")


def pytest_collection_modifyitems(config, items):
    """The longest files first. Without --long the long tests are left out: not run, not counted, not called skipped."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture
def stent(tmp_path):
    """
    Starts stent: `stent(ini)`, or `stent.route(backend, key=value, ...)` for one route.
    Each one started must end cleanly, whatever the test did to it.
    """
    starter = harness.Starter(tmp_path)
    yield starter
    starter.finish()


@pytest.fixture
def echo():
    """A backend that sends back what it gets, and its FIN after the other's."""
    with harness.EchoBackend() as backend:
        yield backend


@pytest.fixture
def raw_backend():
    """A backend by hand: the test accepts and speaks."""
    with harness.RawBackend() as backend:
        yield backend

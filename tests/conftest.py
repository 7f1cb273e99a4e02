"""Fixtures and options that all tests of the running program share; the tools behind them are in e2e/harness.py."""

import harness
import pytest


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config, items):
    """Without --long the long tests are left out: not run, not counted, not called skipped."""
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

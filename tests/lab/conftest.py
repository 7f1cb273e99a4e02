import lab as lab_module
import pytest
import trio as trio_module


@pytest.fixture
def lab():
    network = lab_module.Lab()
    yield network
    network.close()


@pytest.fixture
def trio():
    network = trio_module.Trio()
    yield network
    network.close()


def pytest_collection_modifyitems(items):
    for item in items:
        if "/lab/" in str(item.path):
            item.add_marker(pytest.mark.lab)

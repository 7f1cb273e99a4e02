import lab as lab_module
import pytest


@pytest.fixture
def lab():
    network = lab_module.Lab()
    yield network
    network.close()


def pytest_collection_modifyitems(items):
    for item in items:
        if "/lab/" in str(item.path):
            item.add_marker(pytest.mark.lab)

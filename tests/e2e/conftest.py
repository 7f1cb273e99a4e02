"""Servers that the tests of this folder share: started when first wanted, once, stopped at the end."""

import pytest


@pytest.fixture(scope="session")
def certificates():
    from certificates import Certificates
    made = Certificates()
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres():
    from servers.postgres import Postgres
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def mariadb():
    from servers.mariadb import Mariadb
    server = Mariadb()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis():
    from servers.redis import Redis
    server = Redis("--enable-debug-command", "yes")
    yield server
    server.close()

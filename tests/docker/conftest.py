"""The engine, its images and containers. The images are made once for all tests here, at the same time: they take the minutes."""

import concurrent.futures

import engine as engine_module
import harness
import pytest
from certificates import Certificates
from containers import ARM64_IMAGE, DOCKER, HERE, IMAGE, SERVER_IMAGE


@pytest.fixture(scope="session")
def engine_and_builds():
    e = engine_module.Engine()
    with concurrent.futures.ThreadPoolExecutor() as at_once:
        try:
            e.need_base()
            builds = {
                IMAGE: at_once.submit(e.build, IMAGE, harness.ROOT, DOCKER / "Dockerfile"),
                SERVER_IMAGE: at_once.submit(e.build, SERVER_IMAGE, DOCKER / "websocket"),
                "postgres": at_once.submit(e.need, "postgres:15", HERE / "postgres"),
            }
            for work in builds.values():
                work.result()
            # The other architecture's goes on beside the first tests.
            builds[ARM64_IMAGE] = at_once.submit(e.build, ARM64_IMAGE, harness.ROOT, DOCKER / "Dockerfile", "arm64")
            yield e, builds
            builds[ARM64_IMAGE].exception()
        finally:
            if e.process is None:	# else they go with the engine
                for image in (IMAGE, SERVER_IMAGE, ARM64_IMAGE):
                    e.docker_status("image", "rm", "-f", image)
            e.stop()


@pytest.fixture(scope="session")
def engine(engine_and_builds):
    return engine_and_builds[0]


@pytest.fixture(scope="session")
def certificates():
    made = Certificates()
    yield made
    made.close()


@pytest.fixture
def arm64_image(engine_and_builds):
    engine_and_builds[1][ARM64_IMAGE].result()
    return ARM64_IMAGE


@pytest.fixture
def container(engine):
    """Starts a container of the image in the machine's network: container(docker options, stent's words)."""
    started = []

    def run(options, *words, image=IMAGE):
        started.append(engine.docker("run", "-d", "--network=host", *options, image, *words))
        return started[-1].splitlines()[-1]
    yield run
    for name in started:
        print(engine.docker("logs", name.splitlines()[-1]))
        engine.docker("rm", "-f", "-v", name.splitlines()[-1])


@pytest.fixture
def compose(engine):
    """
    Brings compose files up, the first one of docker/, others as tests need them; returns how to call compose on them. Takes all of
    it away again.
    """
    projects = []

    def up(file, *others, wait=(), **env):
        files = [DOCKER / file, *(HERE / other for other in others)]
        project = "stent-test-" + file.split(".")[1]
        env = {"STENT_IMAGE": IMAGE, "SERVER_IMAGE": SERVER_IMAGE, **env}

        def call(*words, **how):
            return engine.compose(files, project, *words, **env, **how)
        projects.append(call)
        call("up", "-d", "--no-build", *wait)
        return call
    yield up
    for call in projects:
        print(call("logs"))
        call("down", "-v", "-t", "2")

"""What all tests share: a real Apache Kafka, started once per test process and only if a test asks for it.

``KAFKA_BOOTSTRAP`` names a running broker; else a container where a Docker daemon answers; else a local broker on Java 17. Without
any, tests that need one are skipped, and fail instead where ``CI`` or ``OFFHOOK_REQUIRE_BROKER`` is set: nothing passes unseen.
"""

import contextlib
import gc
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import pytest

from deploy.local_kafka import HOST, READY_S, KafkaUnavailable, LocalKafka, answers, container_properties, docker_answers, free_port

LIBRARY_WARNINGS = ("(read|open)_text is deprecated:DeprecationWarning",)  # kafka-python, on import
LEFT_OPEN = ("_SelectorTransport", "socket.socket")  # by clients of a broker that a test took away; the collector finds them in a later one
ON_A_BROKER = pytest.StashKey[bool]()
KAFKA_IMAGE = "apache/kafka:4.3.1"


def pytest_configure(config: pytest.Config) -> None:
    """Let pass what libraries do on import and we cannot change; every other warning is an error."""
    for warning in LIBRARY_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{warning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let no test on a broker answer for connections that clients of an earlier one have left to the collector."""
    for item in items:
        if item.get_closest_marker("broker"):
            for what in LEFT_OPEN:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:Exception ignored in.*{what}:pytest.PytestUnraisableExceptionWarning"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note whether tests on a broker are going to run."""
    session.config.stash[ON_A_BROKER] = any(item.get_closest_marker("broker") for item in session.items)


def pytest_exception_interact(node: pytest.Item | pytest.Collector, report: pytest.TestReport | pytest.CollectReport) -> None:
    """Say at once what a long run has failed on, and how to run that again: pytest does at its end, hours later, or never."""
    terminal = node.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and node.get_closest_marker("soak"):
        terminal.write_line("\n".join(["", node.nodeid, report.longreprtext, *(text for _, text in report.sections)]))
        terminal.flush()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """As for each test: at the very end the collector finds what the last tests on a broker have left to it, if anything."""
    if config.stash.get(ON_A_BROKER, False):
        for what in LEFT_OPEN:
            warnings.filterwarnings("ignore", f"Exception ignored in.*{what}", pytest.PytestUnraisableExceptionWarning)


def _required() -> bool:
    return any(os.environ.get(name, "").lower() not in ("", "0", "false") for name in ("CI", "OFFHOOK_REQUIRE_BROKER"))


@contextlib.contextmanager
def _container() -> Iterator[str]:
    """Run the same broker as ``LocalKafka`` does, with the same properties, in a container."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    properties = container_properties(port)
    container = DockerContainer(KAFKA_IMAGE)
    container.ports[str(port)] = (HOST, port)  # on the loopback address only, which ``with_bind_ports`` cannot say
    for name, value in properties.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with container:
        deadline = time.monotonic() + READY_S
        while not answers(HOST, port):
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"the container of {KAFKA_IMAGE} does not answer on {HOST}:{port}")
            time.sleep(0.2)
        yield f"{HOST}:{port}"


def _give_up(why: object) -> NoReturn:
    if _required():
        pytest.fail(f"a broker is required here and there is none: {why}", pytrace=False)
    pytest.skip(f"no broker: {why}")


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Yield the ``host:port`` of a real broker; make topics of your own on it, named with ``topic_prefix``."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with contextlib.ExitStack() as stack:
        found, reasons = "", []
        for start in (_container, _local) if docker_answers() else (_local,):
            try:
                found = stack.enter_context(start())
                break
            except Exception as e:  # a daemon without the image, a machine without Java: try the next way
                reasons.append(str(e))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # a client that found nobody leaves its sockets open
                gc.collect()
        if not found:
            _give_up("; ".join(reasons))
        yield found


@contextlib.contextmanager
def _local() -> Iterator[str]:
    with LocalKafka() as kafka:
        yield kafka.bootstrap


@pytest.fixture
def topic_prefix() -> str:
    """Return a prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}."


def _starter() -> Iterator[Callable[..., LocalKafka]]:
    with contextlib.ExitStack() as stack:

        def start(**options: Mapping[str, str]) -> LocalKafka:
            try:
                return stack.enter_context(LocalKafka(**options))
            except KafkaUnavailable as e:
                _give_up(e)

        yield start


@pytest.fixture
def local_kafka() -> Iterator[Callable[..., LocalKafka]]:
    """Yield a function that starts a local broker of the test's own, one that it may kill, freeze and restart."""
    yield from _starter()


@pytest.fixture(scope="module")
def module_kafka() -> Iterator[Callable[..., LocalKafka]]:
    """Yield the same for all tests of a module."""
    yield from _starter()

"""Do the figures say what they were taken on? Python and the packages, and the broker with its Java, which take half of the time."""

from collections.abc import Iterator

import pytest

from deploy.local_kafka import KafkaUnavailable, kafka_version
from tests.bench import figure
from tests.bench.figure import Bench, Section, broker, markdown, versions


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setattr(figure, "java_version", lambda: "17.0.99")
    broker.cache_clear()
    yield
    broker.cache_clear()


def test_the_versions_name_the_broker_and_its_java() -> None:
    assert kafka_version().split(".")[0].isdigit()
    assert versions().items() >= {"kafka": kafka_version(), "java": "17.0.99"}.items()
    assert f"river 0.1, kafka {kafka_version()}, java 17.0.99:\n" in markdown(Bench("a machine", {"river": "0.1"} | broker(), []))


def test_a_broker_that_is_named_does_not_tell_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:9092")
    assert versions()["kafka"] == "as KAFKA_BOOTSTRAP names it"
    assert "java" not in versions()


def test_what_needs_no_broker_is_measured_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise KafkaUnavailable("no Java found")

    monkeypatch.setattr(figure, "java_version", none)
    assert versions().keys().isdisjoint({"kafka", "java"})
    assert "python" in versions()


def test_figures_that_were_taken_on_another_broker_are_not_kept() -> None:
    before = Bench("a machine", {"kafka": "4.2.0"}, [Section("replay", [], 1.0)])
    now = Bench("a machine", {"kafka": "4.3.1"}, [Section("latency", [], 1.0)])
    assert [s.name for s in now.after(before, ["replay", "latency"]).sections] == ["latency"]
    assert [s.name for s in now.after(Bench("a machine", now.versions, before.sections), ["replay", "latency"]).sections] == [
        "replay",
        "latency",
    ]

"""When does a record arrive, how often, and in what shape: small delays, disorder, redelivery, backlogs, and broken producers."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Literal, get_args

import msgspec

from pipeline.core.errors import Refusal
from pipeline.core.events import Feed
from pipeline.simulate.chance import MINUTE, derived
from pipeline.simulate.facts import Backlog
from pipeline.simulate.shelves import Shelves
from pipeline.simulate.views import Row

_encode = msgspec.json.Encoder().encode  # gives back no more memory than the value needs, unlike orjson: shelves hold many
LATE_MS = 30 * MINUTE  # contract.md
NEVER_LATE = ("dispositions", "phone-links")  # and line records
DELAY_MS: dict[Feed, int] = {  # the usual delay of each producer
    "logins": 60,
    "otp-dispatches": 90,
    "telephony": 500,
    "otp-entries": 60,
    "phone-links": 400,
    "account-changes": 150,
    "dispositions": 800,
}
SLOW_SHARE = 0.006  # seconds to minutes late
LATE_SHARE = 0.0002  # beyond the bound
DUPLICATE_SHARE = 0.003
MALFORMED_SHARE = 0.0004

Fault = Literal[
    "broken_json",
    "not_an_object",
    "too_deep",
    "not_utf8",
    "no_value",
    "missing_field",
    "unknown_enum",
    "wrong_type",
    "no_offset",
    "year_2099",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
REFUSED_AS: dict[Fault, Refusal] = {
    "broken_json": "not_json",
    "not_an_object": "not_json",
    "too_deep": "not_json",
    "not_utf8": "not_utf8",
    "no_value": "no_value",
    "missing_field": "invalid_field",
    "unknown_enum": "invalid_field",
    "wrong_type": "invalid_field",
    "no_offset": "invalid_time",
    "year_2099": "future",
}
ENUM: dict[Feed, str] = {
    "logins": "outcome",
    "otp-dispatches": "channel",
    "telephony": "source",
    "otp-entries": "outcome",
    "phone-links": "status",
    "account-changes": "change",
    "dispositions": "verdict",
}


def _field(body: dict[str, Any], name: str, value: object) -> bytes:
    return _encode({**body, name: value})


def _broken(fault: Fault, topic: Feed, body: dict[str, Any]) -> bytes | None:
    match fault:
        case "broken_json":
            return _encode(body)[:-7]
        case "not_an_object":
            return _encode([body["event_id"]])
        case "too_deep":
            return b"[" * 4000 + b"]" * 4000
        case "not_utf8":
            return _encode(body).replace(b"occurred_at", b"occurred\xff\xfeat")
        case "no_value":
            return None
        case "missing_field":
            return _encode({k: v for k, v in body.items() if k != "event_id"})
        case "unknown_enum":
            return _field(body, ENUM[topic], "unheard_of")
        case "wrong_type":
            return _field(body, "event_id", 17)
        case "no_offset":
            return _field(body, "occurred_at", "2026-03-02T08:00:00.000")
        case "year_2099":
            return _field(body, "occurred_at", "2099" + body["occurred_at"][4:])


class Arrivals:
    """Puts the rows of one household after the other on the shelves, and counts what it did to them."""

    def __init__(self, shelves: Shelves, seed: int, *, noise: bool, live_from: int) -> None:
        self.shelves = shelves
        self.seed = seed
        self.noise = noise
        self.live_from = live_from
        self.records: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.faults_by_topic: Counter[str] = Counter()

    def household(self, index: int, backlogs: list[Backlog]) -> Callable[[Row], None]:
        """Return what takes a row of this household. Bank and telephony have chance of their own: a view changes neither the other."""
        bank, telephony = derived(self.seed, "arrivals", index), derived(self.seed, "arrivals-telephony", index)

        def put(row: Row) -> None:
            rng = telephony if row.topic == "telephony" else bank
            self._put(row, rng, backlogs)

        return put

    def _put(self, row: Row, rng: Random, backlogs: list[Backlog]) -> None:
        topic, body = row.topic, row.body
        value = _encode(body)
        usual = DELAY_MS[topic]
        if not self.noise:
            self._shelve(row, value, row.known_at + usual)
            return
        u = rng.random()
        delay = usual * 0.3 + usual * rng.expovariate(1.0)
        if u < SLOW_SHARE + LATE_SHARE and row.known_at >= self.live_from:
            delay = rng.uniform(31, 55) * MINUTE if u < LATE_SHARE else rng.expovariate(1 / 40_000) + 2000
        arrives = row.known_at + int(delay)
        if backlogs and topic == "telephony":
            for b in backlogs:
                if b.begin <= arrives < b.end and body["phone"] == b.line.number:
                    arrives = b.end + int(rng.random() * 20_000)  # all at once, in any order
        self._shelve(row, value, arrives)
        if row.known_at < self.live_from:
            return
        u = rng.random()
        if u < DUPLICATE_SHARE:
            self.duplicates[topic] += 1
            self._shelve(row, value, arrives + int(rng.expovariate(1 / 30_000)))
        elif u < DUPLICATE_SHARE + MALFORMED_SHARE:
            fault = FAULTS[int(rng.random() * len(FAULTS))]
            if fault == "no_value" and topic == "phone-links":
                fault = "broken_json"  # a tombstone is lawful there
            if fault == "year_2099" and topic == "dispositions":
                fault = "wrong_type"
            self.faults[fault] += 1
            self.faults_by_topic[topic] += 1
            spoiled = _broken(fault, topic, {**body, "event_id": f"{body['event_id']}.x"})
            self.records[topic] += 1
            self.shelves.put(arrives + int(rng.random() * 2000), topic, row.key, spoiled)

    def _shelve(self, row: Row, value: bytes, arrives: int) -> None:
        topic = row.topic
        self.records[topic] += 1
        if arrives - row.occurred_at > LATE_MS and topic not in NEVER_LATE and row.body.get("type") != "line":
            self.late[topic] += 1
        self.shelves.put(arrives, topic, row.key, value)

"""A simulated world read back from its log, as the bank sees it."""

import contextlib
from collections import defaultdict
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from pipeline.simulate.run import Summary
from pipeline.wire.log import LogRecord, read_log

Body = dict[str, Any]


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


class World:
    """One simulated log and its truth; every body has its instants, ms, as ``at`` and ``arrived_at``."""

    def __init__(self, out: Path, summary: Summary) -> None:
        self.out = out
        self.summary = summary
        self.truth: list[Body] = [orjson.loads(line) for line in (out / summary.truth).read_bytes().splitlines()]
        self.records: list[LogRecord] = list(read_log(out / summary.log))
        self.by_topic: dict[str, list[Body]] = defaultdict(list)
        for record in self.records:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # what noise broke, where noise is wanted
                body = orjson.loads(record.value or b"null")
                if body["event_id"].endswith(".x"):  # the mark of what noise made up
                    continue
                body["at"] = ms(body["occurred_at"])
                body["arrived_at"] = record.ts
                self.by_topic[record.topic].append(body)

    def live(self, **wanted: object) -> list["Case"]:
        """Give the challenges of the log proper that have these values in the truth."""
        return [Case(self, t) for t in self.truth if not t["history"] and all(t[k] == v for k, v in wanted.items())]

    @cached_property
    def dispatches(self) -> dict[str, list[Body]]:
        return self._index("otp-dispatches", "otp_id")

    @cached_property
    def entries(self) -> dict[str, list[Body]]:
        return self._index("otp-entries", "otp_id")

    @cached_property
    def logins(self) -> dict[str, list[Body]]:
        return self._index("logins", "account_id")

    @cached_property
    def changes(self) -> dict[str, list[Body]]:
        return self._index("account-changes", "account_id")

    @cached_property
    def telephony(self) -> dict[str, list[Body]]:
        return self._index("telephony", "phone")

    @cached_property
    def phones(self) -> dict[str, set[str]]:
        phones: dict[str, set[str]] = defaultdict(set)
        for topic in ("phone-links", "otp-dispatches"):
            for body in self.by_topic[topic]:
                if body["phone"] is not None:
                    phones[body["account_id"]].add(body["phone"])
        return phones

    @cached_property
    def calls(self) -> dict[str, list[Body]]:
        """Calls by phone, their states put together: at, answered_at, ended_at."""
        joined: dict[str, Body] = {}
        for body in sorted(self.by_topic["telephony"], key=lambda b: (b["at"], b["event_id"])):
            if body["type"] != "call":
                continue
            call = joined.setdefault(body["call_id"], {"began": body["at"], "answered_at": None, "ended_at": None, "states": []})
            call.update({k: v for k, v in body.items() if v is not None and k not in {"at", "state"}})
            call["states"].append(body["state"])
            if body["state"] == "answered":
                call["answered_at"] = body["at"]
            if body["state"] in {"ended", "missed"}:
                call["ended_at"] = body["at"]
        by_phone: dict[str, list[Body]] = defaultdict(list)
        for call in joined.values():
            by_phone[call["phone"]].append(call)
        return by_phone

    def _index(self, topic: str, name: str) -> dict[str, list[Body]]:
        index: dict[str, list[Body]] = defaultdict(list)
        for body in sorted(self.by_topic[topic], key=lambda b: (b["at"], b["event_id"])):
            index[body[name]].append(body)
        return index


class Case:
    """One challenge with what surrounds it in the log."""

    def __init__(self, world: World, truth: Body) -> None:
        self.world = world
        self.truth = truth
        self.account = truth["account_id"]
        self.dispatches = world.dispatches[truth["otp_id"]]
        self.sent = [d for d in self.dispatches if d["status"] == "sent"]
        self.sent_at: int = self.sent[0]["at"]
        self.entries = world.entries.get(truth["otp_id"], [])
        self.entered_at: int | None = self.entries[-1]["at"] if self.entries else None
        self.session = self.dispatches[0]["session_id"]
        self.logins = [b for b in world.logins[self.account] if b["session_id"] == self.session]

    def calls(self, before_s: float = 300, after_s: float = 600) -> list[Body]:
        """Give the calls on the account's lines that begin from so long before the dispatch to so long after."""
        low, high = self.sent_at - 1000 * before_s, self.sent_at + 1000 * after_s
        return [c for phone in sorted(self.world.phones[self.account]) for c in self.world.calls[phone] if low <= c["began"] <= high]

    def live_at_entry(self, before_s: float = 3600) -> list[Body]:
        at = self.entered_at
        if at is None:
            return []
        return [c for c in self.calls(before_s) if c["answered_at"] is not None and c["answered_at"] <= at < c["ended_at"]]

    def texts(self, before_s: float, after_s: float) -> list[Body]:
        """Give the messages around the dispatch, the bank's own left out."""
        low, high = self.sent_at - 1000 * before_s, self.sent_at + 1000 * after_s
        return [
            b
            for phone in sorted(self.world.phones[self.account])
            for b in self.world.telephony[phone]
            if b["type"] == "sms" and low <= b["at"] <= high and b["peer"] != "EXAMPLEBANK"
        ]

    def line_changes(self) -> list[Body]:
        return [b for phone in sorted(self.world.phones[self.account]) for b in self.world.telephony[phone] if b["type"] == "line"]

    def known_devices(self) -> set[str]:
        """Give the devices that logged in more than three hours before."""
        return {b["device_id"] for b in self.world.logins[self.account] if b["at"] < self.sent_at - 3 * 3_600_000}

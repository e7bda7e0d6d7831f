"""Raw records for the tests of replay: a customer with habits, and one takeover by phone."""

from collections.abc import Iterator
from pathlib import Path

import orjson

from pipeline.wire.instant import rfc3339
from pipeline.wire.log import LogRecord, encode_line

START = 1_795_334_400_000  # 2026-11-22T08:00:00Z
DAY = 86_400_000
PHONE = "+447700900123"
STRANGER = "+447700900999"
BROWSER, TOOL = "Mozilla/5.0 (a browser)", "curl/8.0"


class Log:
    """Collects raw records; arrival is half a second after occurrence, unless said otherwise."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self._offsets: dict[str, int] = {}

    def put(self, topic: str, key: str, at: int, delay: int = 500, **fields: object) -> None:
        value = {"event_id": f"{topic}-{len(self.records)}", "occurred_at": rfc3339(at), **fields}
        self.raw(topic, at + delay, orjson.dumps(value), key.encode())

    def raw(self, topic: str, ts: int, value: bytes | None, key: bytes | None = None) -> None:
        offset = self._offsets[topic] = self._offsets.get(topic, -1) + 1
        self.records.append(LogRecord(topic, 0, offset, ts, key, value))

    def linked(self, account: str, phone: str, at: int) -> None:
        self.put("phone-links", f"{phone}|{account}", at, phone=phone, account_id=account, status="linked")

    def challenge(
        self,
        account: str,
        phone: str,
        at: int,
        name: str,
        device: str,
        asn: int = 64500,
        entry_s: float | None = 12,
        kind: str = "residential",
    ) -> None:
        """A login, its code, and the entry ``entry_s`` seconds after the code was sent (None: never)."""
        where: dict[str, object] = {"device_id": device, "ip": "192.0.2.10", "asn": asn, "country": "GB"}
        self.put("logins", account, at, account_id=account, session_id=f"s-{name}", outcome="passed", flow="login", asn_kind=kind, **where)
        self.put("otp-dispatches", account, at + 2000, account_id=account, otp_id=f"o-{name}", session_id=f"s-{name}", phone=phone,
                 channel="sms", purpose="login", initiated_by="customer", sender="MyBank", expires_at=rfc3339(at + 302_000))  # fmt: skip
        if entry_s is not None:
            entered = at + 2000 + int(entry_s * 1000)
            self.put("otp-entries", account, entered, account_id=account, otp_id=f"o-{name}", session_id=f"s-{name}", outcome="accepted",
                     method="typed", **where)  # fmt: skip

    def call(self, phone: str, at: int, name: str, talk_s: float = 60, peer: str = STRANGER) -> None:
        common: dict[str, object] = {"type": "call", "phone": phone, "call_id": name, "direction": "inbound", "peer": peer,
                                     "attestation": "C", "peer_is_contact": False}  # fmt: skip
        self.put("telephony", phone, at, state="ringing", **common)
        self.put("telephony", phone, at + 4000, state="answered", **common)
        self.put("telephony", phone, at + 4000 + int(talk_s * 1000), state="ended", **common)

    def by_arrival(self) -> Iterator[LogRecord]:
        yield from sorted(self.records, key=lambda r: r.ts)

    def write(self, path: Path) -> Path:
        path.write_bytes(b"".join(encode_line(record) for record in self.by_arrival()))
        return path


def habits(log: Log, account: str = "acc-1", phone: str = PHONE, days: int = 10, until: int = START) -> None:
    """A customer who logs in every morning on the same phone."""
    log.linked(account, phone, until - (days + 1) * DAY)
    for day in range(days, 0, -1):
        log.challenge(account, phone, until - day * DAY, f"{account}-d{day}", f"dev-{account}")


def takeover(log: Log, account: str = "acc-1", phone: str = PHONE, at: int = START) -> None:
    """Variant V1: a stranger rings as the code arrives, the code is entered on a new device while they talk, 44 s after it was sent."""
    log.challenge(account, phone, at, f"{account}-bad", "dev-new", asn=64501, entry_s=44, kind="hosting")
    log.call(phone, at + 5000, f"{account}-call", talk_s=60)


def story() -> Log:
    """Two customers with habits, one of whom is taken over."""
    log = Log()
    habits(log)
    habits(log, "acc-2", "+447700900456", until=START - 420_000)  # seven minutes earlier: no two records arrive together
    takeover(log)
    log.challenge("acc-2", "+447700900456", START + 60_000, "acc-2-today", "dev-acc-2")
    return log


def code(log: Log, account: str, at: int, name: str, seconds: float, agent: str = BROWSER, channel: str = "sms", **entry: object) -> None:
    """A login, its code at once, and the entry so many seconds later."""
    about = {"account_id": account, "session_id": f"s-{name}"}
    log.put("logins", account, at, **about, outcome="passed", flow="login", user_agent=agent)
    otp = {**about, "otp_id": f"o-{name}"}
    log.put("otp-dispatches", account, at, **otp, phone=PHONE, channel=channel, purpose="login", initiated_by="customer")
    log.put("otp-entries", account, at + round(1000 * seconds), **{**otp, "outcome": "accepted", **entry})


def verdict(log: Log, account: str, what: str, at: int = START + 9 * DAY, **about: str) -> None:
    log.put("dispositions", account, at, account_id=account, verdict=what, source="analyst", **about)

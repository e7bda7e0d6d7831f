"""Random lives of one account: a few hours of logins, codes, calls, messages and entries, in a small world where ids collide."""

from hypothesis import strategies as st

from pipeline.core.events import (
    AccountChanged,
    AccountEvent,
    CallChanged,
    Disposed,
    LineAsked,
    LineChanged,
    LineLinked,
    LoggedIn,
    MessageSeen,
    OtpDispatched,
    OtpEntered,
    Snoozed,
)

T0 = 1_790_000_000_000  # ms
ACCOUNT = "acct-1"
HOURS_MS = 6 * 3_600_000

peers = st.sampled_from([(), ("k1:stranger",), ("k1:friend",), ("k1:bank",), ("k2:stranger", "k1:stranger")])
lines = st.sampled_from(["r:one", "r:two"])
maybe_bool = st.sampled_from([None, True, False])
otp_ids = st.sampled_from(["o1", "o2", "o3"])
sessions = st.sampled_from([None, "s1", "s2"])
devices = st.sampled_from([None, "d1", "d2", "d3"])
asns = st.sampled_from([None, 64496, 64497])
countries = st.sampled_from([None, "GB", "FR"])
scopes = st.sampled_from(["model", "R01", "R05", "new_device", "stranger_call_live"])


def _event(kind: str, draw: st.DrawFn, base: dict[str, object]) -> AccountEvent:
    def b(strategy: st.SearchStrategy[object]) -> object:
        return draw(strategy)

    make: dict[str, object]
    match kind:
        case "login":
            make = {
                "session_id": b(st.sampled_from(["s1", "s2"])),
                "outcome": b(st.sampled_from(["passed", "passed", "failed"])),
                "flow": b(st.sampled_from(["login", "password_reset"])),
                "device_id": b(devices),
                "asn": b(asns),
                "asn_kind": b(st.sampled_from([None, "hosting", "residential"])),
                "country": b(countries),
                "user_agent": b(st.sampled_from([None, "ua1", "ua2"])),
            }
            return LoggedIn(**base, **make)  # type: ignore[arg-type]
        case "dispatch":
            make = {
                "otp_id": b(otp_ids),
                "session_id": b(sessions),
                "line": "r:one",
                "line_country": "GB",
                "sender": b(st.sampled_from([(), ("k1:bank",)])),
                "channel": b(st.sampled_from(["sms", "voice"])),
                "purpose": b(st.sampled_from(["login", "password_reset"])),
                "initiated_by": b(st.sampled_from(["customer", "customer", "agent"])),
                "status": b(st.sampled_from(["sent", "sent", "delivered", "failed"])),
            }
            return OtpDispatched(**base, **make)  # type: ignore[arg-type]
        case "call":
            make = {
                "line": b(lines),
                "call_id": b(st.sampled_from(["c1", "c2", "c3"])),
                "state": b(st.sampled_from(["ringing", "answered", "ended", "missed"])),
                "direction": b(st.sampled_from(["inbound", "inbound", "outbound"])),
                "peer": b(peers),
                "attestation": b(st.sampled_from([None, "A", "C"])),
                "peer_is_contact": b(maybe_bool),
                "peer_is_bank": b(maybe_bool),
                "source": b(st.sampled_from([None, "carrier", "device_sdk"])),
            }
            return CallChanged(**base, **make)  # type: ignore[arg-type]
        case "asked":
            return LineAsked(**base, line=b(lines), on_call=b(maybe_bool), source="probe")  # type: ignore[arg-type]
        case "message":
            make = {"line": b(lines), "direction": b(st.sampled_from(["inbound", "outbound"])), "peer": b(peers), "has_code": b(maybe_bool)}
            return MessageSeen(**base, **make)  # type: ignore[arg-type]
        case "line":
            change = b(st.sampled_from(["sim_swapped", "forwarding_on", "roaming_on"]))
            return LineChanged(**base, line=b(lines), change=change, country="FR")  # type: ignore[arg-type]
        case "linked":
            return LineLinked(**base, line=b(lines), status="linked", accounts=b(st.integers(1, 3)))  # type: ignore[arg-type]
        case "entry":
            make = {
                "otp_id": b(otp_ids),
                "session_id": b(sessions),
                "outcome": b(st.sampled_from(["accepted", "accepted", "rejected", "expired"])),
                "method": b(st.sampled_from([None, "typed", "autofill"])),
                "device_id": b(devices),
                "asn": b(asns),
            }
            return OtpEntered(**base, **make)  # type: ignore[arg-type]
        case "changed":
            return AccountChanged(**base, change=b(st.sampled_from(["payee_added", "transfer", "phone_changed"])), session_id=b(sessions))  # type: ignore[arg-type]
        case "snoozed":
            status = b(st.sampled_from(["in_force", "in_force", "ended"]))
            until = base["occurred_at"] + b(st.sampled_from([60_000, HOURS_MS, 40 * HOURS_MS]))  # type: ignore[operator]
            return Snoozed(**base, scope=b(scopes), status=status, expires_at=until, reason="known", who="analyst-1")  # type: ignore[arg-type]
        case _:
            return Disposed(**base, verdict=b(st.sampled_from(["benign", "true_positive"])), source="analyst", otp_id=b(otp_ids))  # type: ignore[arg-type]


KINDS = ["login", "dispatch", "dispatch", "call", "call", "asked", "message", "line", "linked", "entry", "entry", "changed"]


@st.composite
def lives(draw: st.DrawFn, most: int = 25, disposed: bool = False, span_ms: int = HOURS_MS, snoozed: bool = False) -> list[AccountEvent]:
    """Events of one account in order of arrival; a few arrive late, none before it occurred."""
    count = draw(st.integers(1, most))
    kinds = [*KINDS, *(["disposed"] if disposed else []), *(["snoozed"] * 3 if snoozed else [])]
    events: list[AccountEvent] = []
    clustered = draw(st.booleans())  # half of the lives happen within minutes, where everything touches everything
    for i in range(count):
        occurred = T0 + draw(st.integers(0, 600_000 if clustered else span_ms))
        delay = draw(st.sampled_from([0, 150, 5_000, 60_000, 1_700_000, 1_900_000]))
        base = {"event_id": f"e{i:03d}", "account_id": ACCOUNT, "occurred_at": occurred, "arrived_at": occurred + delay}
        events.append(_event(draw(st.sampled_from(kinds)), draw, base))
    return sorted(events, key=lambda e: (e.arrived_at, e.event_id))

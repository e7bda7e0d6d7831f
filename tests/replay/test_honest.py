"""Is what is counted of past days honest, as far as anybody knows, and the same in whatever order a log is read?"""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.decision import finding_uid
from pipeline.core.policy import Policy
from pipeline.replay import honest
from pipeline.replay.honest import READ, Counted, Days
from pipeline.replay.verdicts import Verdicts
from pipeline.wire.canonical import user_agent_digest
from pipeline.wire.log import LogRecord
from tests.examples import examples
from tests.replay.raw import BROWSER, DAY, START, TOOL, Log, code, verdict


def counted(records: Iterable[LogRecord], policy: Policy | None = None) -> Counted:
    records, verdicts = list(records), Verdicts()
    for record in records:
        if record.topic == "dispositions":
            verdicts.take(record.value or b"")
    days = Days(policy or Policy(), verdicts)
    for record in records:
        if record.topic in READ:
            days.take(record.topic, record)
        else:
            days.tick(record.ts)
    return days.finish()


def entries(found: Counted) -> int:
    return sum(each.total() for each in found.latencies.values())


def test_a_code_teaches_its_latency_and_its_login_its_browser() -> None:
    log = Log()
    code(log, "acc-1", START, "one", 9.5)
    found = counted(log.by_arrival())
    assert found.latencies == {"sms": Counter({9500: 1})}
    assert found.accounts == {"sms": {"acc-1"}}
    assert found.logins == Counter({user_agent_digest(BROWSER): 1})
    assert found.days == {date(2026, 11, 22)}
    assert not found.left


def test_a_code_sent_again_is_measured_from_then_on_the_channel_it_came_by() -> None:
    log = Log()
    code(log, "acc-1", START, "one", 60)
    again = {"account_id": "acc-1", "otp_id": "o-one", "channel": "voice", "purpose": "login", "initiated_by": "customer"}
    log.put("otp-dispatches", "acc-1", START + 40_000, **again)
    log.put("otp-dispatches", "acc-1", START + 50_000, **again, status="delivered")
    log.put("otp-entries", "acc-1", START + 30_000, account_id="acc-1", otp_id="o-one", outcome="rejected")
    assert counted(log.by_arrival()).latencies == {"voice": Counter({20_000: 1})}


def test_what_is_no_honest_entry_or_login_is_left_out_and_said() -> None:
    log = Log()
    code(log, "acc-1", START, "fine", 9)
    code(log, "acc-1", START + 700_000, "refused", 9, outcome="rejected")
    code(log, "acc-t", START, "test", 9)
    log.put("logins", "acc-1", START, account_id="acc-1", session_id="s", outcome="failed", flow="login", user_agent=TOOL)
    log.put("logins", "acc-1", START, account_id="acc-1", session_id="s", outcome="passed", flow="login")
    log.put("otp-entries", "acc-1", START, account_id="acc-1", otp_id="before", outcome="accepted")
    log.put("otp-entries", "acc-1", START, 1_801_000, account_id="acc-1", otp_id="o-fine", outcome="accepted")
    log.raw("logins", START, b"no record")
    found = counted(log.by_arrival(), Policy(test_accounts=frozenset(("acc-t",))))
    assert found.latencies == {"sms": Counter({9000: 1})}
    assert found.logins == Counter({user_agent_digest(BROWSER): 2}), "the login of the refused code is somebody's too"
    assert found.left == Counter(
        {
            "codes that were not accepted": 1,
            "records of test accounts": 3,
            "logins that failed": 1,
            "logins without a user agent": 1,
            "entries of codes whose dispatch is not in the log": 1,
            "records that came too late": 1,
            "records that cannot be read": 1,
        }
    )


@pytest.mark.parametrize("what", ["true_positive", "suspicious", "test"])
@pytest.mark.parametrize("by", ["otp_id", "session_id", "finding_uid"])
def test_what_is_known_to_be_an_attack_teaches_nothing_whatever_a_disposition_names(what: str, by: str) -> None:
    log = Log()
    code(log, "acc-1", START, "fine", 9)
    code(log, "acc-1", START + DAY, "bad", 9, TOOL)
    about = {"otp_id": "o-bad", "session_id": "s-bad", "finding_uid": finding_uid("acc-1", "o-bad")}
    verdict(log, "acc-1", what, at=START + 30 * DAY, **{by: about[by]})
    found = counted(log.by_arrival())
    assert (entries(found), found.logins) == (1, Counter({user_agent_digest(BROWSER): 1}))
    assert found.left == Counter({"entries of known attacks and tests": 1, "logins of known attacks and tests": 1})


def test_the_other_codes_of_a_session_that_is_known_to_be_an_attack_teach_nothing() -> None:
    log = Log()
    code(log, "acc-1", START, "first", 9)
    code(log, "acc-1", START + 30_000, "second", 100)
    session = [msgspec.structs.replace(r, value=(r.value or b"").replace(b"s-second", b"s-first")) for r in log.by_arrival()]
    other = Log()
    verdict(other, "acc-1", "true_positive", at=START + DAY, finding_uid=finding_uid("acc-1", "o-first"))
    found = counted([*session, *other.by_arrival()])
    assert entries(found) == 0
    assert found.left["entries of known attacks and tests"] == 2


def test_the_last_word_on_a_code_counts() -> None:
    log = Log()
    code(log, "acc-1", START, "one", 9)
    verdict(log, "acc-1", "true_positive", at=START + DAY, otp_id="o-one")
    verdict(log, "acc-1", "false_positive", at=START + 2 * DAY, otp_id="o-one")
    verdict(log, "acc-2", "true_positive", at=START + 3 * DAY, otp_id="o-one")
    assert entries(counted(log.by_arrival())) == 1


def test_an_id_that_is_used_again_is_another_code() -> None:
    log = Log()
    for day in range(3):
        code(log, "acc-1", START + day * DAY, "same", 9 + day)
    found = counted(log.by_arrival())
    assert found.latencies == {"sms": Counter({9000: 1, 10_000: 1, 11_000: 1})}


raw = st.lists(
    st.tuples(
        st.sampled_from(["login", "dispatch", "dispatch", "entry", "entry", "verdict"]),
        st.integers(0, 2),  # account
        st.integers(0, 3),  # code and session
        st.integers(0, 4 * 3600),  # s
        st.sampled_from([0, 5, 200, 1790, 1900]),  # s until it arrives
        st.booleans(),
    ),
    max_size=30,
)


def records_of(rows: Iterable[tuple[str, int, int, int, int, bool]]) -> list[LogRecord]:
    log = Log()
    for kind, account, number, at, delay, odd in rows:
        about: dict[str, object] = {"account_id": f"a{account}"}
        otp = {**about, "otp_id": f"o{number}", "session_id": None if odd else f"s{number}"}
        when, late = START + 1000 * at, 1000 * delay
        match kind:
            case "login":
                log.put(
                    "logins",
                    "",
                    when,
                    late,
                    **about,
                    session_id=f"s{number}",
                    outcome="passed",
                    flow="login",
                    user_agent=TOOL if odd else BROWSER,
                )
            case "dispatch":
                channel = "voice" if number == 1 else "sms"
                log.put("otp-dispatches", "", when, late, **otp, channel=channel, purpose="login", initiated_by="customer")
            case "entry":
                log.put("otp-entries", "", when, late, **otp, outcome="accepted")
            case _:
                log.put(
                    "dispositions",
                    "",
                    when,
                    late,
                    **about,
                    otp_id=f"o{number}",
                    verdict="benign" if odd else "true_positive",
                    source="analyst",
                )
    return log.records


@given(raw, st.lists(st.integers(0, 299_000), min_size=1, max_size=9), st.lists(st.integers(0, 29), max_size=6))
@settings(deadline=None, max_examples=examples(300))
def test_order_and_redelivery_do_not_show(rows: list[tuple[str, int, int, int, int, bool]], by: list[int], twice: list[int]) -> None:
    """What is counted is a function of the set of records: read in any order within the slack, some of them twice, it is the same.

    And it is what is counted when nothing is until the log is over.
    """
    records = records_of(rows)
    once = counted(sorted(records, key=lambda r: r.ts))
    again = [msgspec.structs.replace(records[n], ts=records[n].ts + 1000) for n in twice if n < len(records)]
    shifted = [(r.ts + by[n % len(by)], n, r) for n, r in enumerate([*records, *again])]
    other = counted(r for _, _, r in sorted(shifted, key=lambda x: x[:2]))
    with patch.object(honest, "SWEEP_MS", 10**15):
        in_the_end = counted(records)
    assert once == in_the_end
    for found in (once, other):
        found.left.pop("records that came too late", None)  # of which a redelivery may be one
    assert once == other

"""Which accounts hear of a line: one that serves too many is not fanned out, is bounded, and harms nobody else."""

import random

import msgspec

from pipeline.core.events import CallChanged, LineChanged, LinkChanged
from pipeline.core.policy import Policy
from pipeline.core.profile import FACTS_PER_CHANGE
from pipeline.core.route import LineState, Router

T0 = 1_790_000_000_000
BOUNDS = Policy().bounds
MANY = 10_000


def link(number: int, line: str = "r:switchboard", status: str = "linked") -> LinkChanged:
    at, name = T0 + number, f"l{number}{status}"
    return LinkChanged(event_id=name, account_id=f"a{number:05d}", occurred_at=at, arrived_at=at, line=line, status=status)  # type: ignore[arg-type]


def call(line: str, at: int = T0 + MANY) -> CallChanged:
    return CallChanged(
        event_id="c", account_id="", occurred_at=at, arrived_at=at, line=line, call_id="1", state="ringing", direction="inbound"
    )


def known(router: Router, line: str) -> LineState:
    return msgspec.msgpack.decode(router.changes()[line], type=LineState)


def test_a_phone_with_ten_thousand_accounts_is_bounded_counted_and_not_fanned_out() -> None:
    router, told, heard = Router(Policy()), 0, 0
    for number in range(MANY):
        told += len(router.fold(number, link(number)))
    told_each_of_the_first = sum(range(1, BOUNDS.line_accounts + 1))  # with each account that comes, those before it are told
    assert told == told_each_of_the_first
    assert router.overfull == MANY - BOUNDS.line_accounts
    assert router.fold(MANY, call("r:switchboard")) == []
    assert router.overfull == MANY - BOUNDS.line_accounts + 1
    router.fold(MANY + 1, link(1, "r:mine"))
    heard = len(router.fold(MANY + 2, call("r:mine")))
    assert heard == 1, "a neighbour hears"
    state = router.encoded("r:switchboard")
    assert state is None or len(state) < 100 * BOUNDS.line_links
    kept = known(router, "r:switchboard")
    assert sorted(kept.links) == [f"a{number:05d}" for number in range(MANY - BOUNDS.line_links, MANY)]


def test_what_is_remembered_of_it_does_not_depend_on_the_order() -> None:
    numbers = list(range(600))
    ends = []
    for seed in range(3):
        random.Random(seed).shuffle(numbers)
        router = Router(Policy())
        for offset, number in enumerate(numbers):
            router.fold(offset, link(number))
        ends.append(known(router, "r:switchboard").links)
    assert ends[0] == ends[1] == ends[2]


def test_a_phone_that_comes_back_under_the_bound_is_fanned_out_again() -> None:
    router = Router(Policy())
    most = BOUNDS.line_accounts
    for number in range(most + 1):
        router.fold(number, link(number))
    assert router.fold(100, call("r:switchboard")) == []
    gone = link(most, status="unlinked")
    told = router.fold(101, msgspec.structs.replace(gone, occurred_at=T0 + MANY, arrived_at=T0 + MANY))
    assert [(e.account_id, e.status) for e in told] == [  # type: ignore[union-attr]
        *((f"a{n:05d}", "linked") for n in range(most)),
        (f"a{most:05d}", "unlinked"),
    ]
    heard = router.fold(102, msgspec.structs.replace(call("r:switchboard"), event_id="c2"))
    assert [e.account_id for e in heard] == [f"a{n:05d}" for n in range(most)]


def swapped(number: int) -> LineChanged:
    at = T0 + number
    return LineChanged(event_id=f"s{number}", account_id="", occurred_at=at, arrived_at=at, line="r:line", change="sim_swapped")


def test_what_is_read_again_leads_to_nothing_also_where_an_account_was_linked_meanwhile() -> None:
    """Else an account would hear late of what the clock says has come, and of what others linked like it never hear."""
    router = Router(Policy())
    first = [link(1, "r:line"), swapped(2), call("r:line", T0 + 3), swapped(4)]
    assert [len(router.fold(n, event)) for n, event in enumerate(first)] == [1, 1, 1, 1]
    told = [e for e in router.fold(4, link(5, "r:line")) if e.account_id == "a00005"]
    assert [e.event_id for e in told[1:]] == ["s2", "s4", "c"]
    assert [router.fold(5 + n, event) for n, event in enumerate([*first, link(5, "r:line")])] == [[]] * 5


def test_an_account_hears_of_the_same_line_changes_whether_it_was_linked_before_or_after() -> None:
    changes = [swapped(number) for number in range(10, 10 + 2 * FACTS_PER_CHANGE)]
    for seed in range(5):
        random.Random(seed).shuffle(changes)
        early, late = Router(Policy()), Router(Policy())
        early.fold(0, link(1, "r:line"))
        heard = [e for n, event in enumerate(changes) for e in early.fold(n + 1, event)]
        assert [e for n, event in enumerate(changes) for e in late.fold(n + 1, event)] == []
        told = late.fold(99, link(1, "r:line"))[1:]
        assert [e.event_id for e in told] == sorted((e.event_id for e in heard), key=lambda name: int(name[1:]))[-FACTS_PER_CHANGE:]

"""Who lives in this world: households, their customers, lines, devices, networks and circles, each from the seed alone."""

from random import Random
from typing import Literal

import msgspec

from pipeline.simulate.chance import Spread, derived, weighted
from pipeline.simulate.family import Family
from pipeline.simulate.identifiers import Device, Network, Peer, customer_number, device, network, stranger_number

Segment = Literal["younger", "middle", "older"]
Trait = Literal["accountant", "forwards_calls", "tester", "voice_codes", "works_for_a_company"]


class Line(msgspec.Struct, frozen=True):
    """A phone line and what its carrier tells."""

    number: str
    country: str
    coverage_rank: float  # 0 to 1: a view with coverage above it gets this carrier's records
    says_ringing: bool
    says_codes: bool  # whether a text holds a code
    says_contacts: bool  # the customer consented
    says_direction: bool  # in answers to questions
    has_app: bool  # the phone with the bank's app on it
    circle: tuple[Peer, ...]  # usual contacts, the most usual first
    stranger_calls: float  # a day
    contact_calls: float
    outbound_calls: float
    texts: float
    answers_strangers: float
    answers_contacts: float


class Customer(msgspec.Struct, frozen=True):
    """One account, its owner and the owner's habits."""

    account_id: str
    country: str
    offset_min: int  # from UTC
    segment: Segment
    traits: frozenset[Trait]
    lines: tuple[Line, ...]  # the first receives the codes
    devices: tuple[Device, ...]
    home: Network
    mobile: Network
    work: Network | None
    entry: Spread  # seconds from delivery
    mistyped: float
    autofill: bool
    channel: Literal["sms", "voice", "push", "totp"]
    names_sender: bool  # the gateway tells what the customer's phone shows
    logins: float  # a day
    is_new: bool  # no history
    forgets_devices: bool  # every login looks like a new device
    valid_s: int
    accountant: tuple[Device, Network, Peer] | None


class Household(msgspec.Struct, frozen=True):
    """People who share a roof: one customer, or two, with a phone each or one for both."""

    index: int
    customers: tuple[Customer, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple({line.number: line for c in self.customers for line in c.lines}.values())


def _circle(rng: Random, country: str) -> tuple[Peer, ...]:
    return tuple(
        Peer(
            stranger_number(rng, country),
            "mobile" if rng.random() < 0.85 else "fixed",
            weighted(rng, (("A", 0.6), ("B", 0.08), ("C", 0.04), (None, 0.28))),
            is_contact=True,
        )
        for _ in range(4 + int(rng.random() * 9))
    )


def _line(rng: Random, n: int, country: str, family: Family, share: float, traits: frozenset[Trait]) -> Line:
    p = family.people
    busy = share * rng.gammavariate(1.6, 1 / 1.6)  # heavy tail, mean 1
    wanted = share * rng.gammavariate(1.2, 1 / 1.2)
    willing = rng.betavariate(1.2, 1.2 / p.answer_stranger - 1.2)
    return Line(
        number=customer_number(n, country),
        country=country,
        coverage_rank=rng.random(),
        says_ringing=rng.random() < 0.85,
        says_codes=rng.random() < 0.6,
        says_contacts=rng.random() < 0.7,
        says_direction=rng.random() < 0.6,
        has_app=rng.random() < 0.6,
        circle=_circle(rng, country),
        stranger_calls=p.stranger_calls * wanted,
        contact_calls=p.contact_calls * busy,
        outbound_calls=p.outbound_calls * busy,
        texts=p.texts * busy,
        answers_strangers=willing,
        answers_contacts=0.0 if "forwards_calls" in traits else min(0.99, max(0.3, rng.gauss(p.answer_contact, 0.1))),
    )


def _customer(
    rng: Random, account_id: str, country: str, home: Network, lines: tuple[Line, ...], traits: frozenset[Trait], family: Family
) -> Customer:
    p = family.people
    older = rng.random() < p.older
    segment: Segment = "older" if older else "younger" if rng.random() < 0.4 else "middle"
    devices = [device(rng, phone=rng.random() < 0.75)]
    while len(devices) < 3 and rng.random() < 0.4:
        devices.append(device(rng, phone=False))
    slower = 2.2 if older else 0.85 if segment == "younger" else 1.0
    logins = 3.0 if "tester" in traits else min(6.0, p.logins.draw(rng))
    channel: Literal["sms", "voice", "push", "totp"] = (
        "voice" if "voice_codes" in traits else weighted(rng, (("sms", 0.88), ("push", 0.07), ("totp", 0.05)))
    )
    company = "works_for_a_company" in traits or rng.random() < 0.2
    return Customer(
        account_id=account_id,
        country=country,
        offset_min={"GB": 0, "US": -300}.get(country, 60),
        segment=segment,
        traits=traits,
        lines=lines,
        devices=tuple(devices),
        home=home,
        mobile=network(rng, "mobile", country),
        work=network(rng, "corporate", country) if company else None,
        entry=Spread(p.entry.draw(rng) * slower, p.entry_sigma * (1.2 if older else 1.0)),
        mistyped=p.mistyped * (4.0 if older else 0.9),
        autofill=not older and rng.random() < p.autofill,
        channel=channel,
        names_sender=rng.random() < 0.88,
        logins=logins,
        is_new=rng.random() < 0.03,
        forgets_devices=rng.random() < p.forgets_devices,
        valid_s=p.valid_s[rng.randrange(len(p.valid_s))],
        accountant=((device(rng, phone=False), network(rng, "hosting", country), lines[0].circle[0]) if "accountant" in traits else None),
    )


def _traits(rng: Random, family: Family) -> frozenset[Trait]:
    u = rng.random()
    if u < 0.025:
        return frozenset(("accountant",))
    if u < 0.05:
        return frozenset(("forwards_calls", "works_for_a_company"))
    if u < 0.0515:
        return frozenset(("tester",))
    return frozenset(("voice_codes",)) if rng.random() < family.people.voice_codes else frozenset()


def household(seed: int, index: int, first_account: int, family: Family, *, alone: bool = False) -> Household:
    """Make the household with this index; its accounts are numbered from ``first_account``.

    ``alone``: one customer with one line, at home where the bank's clock is.
    """
    rng = derived(seed, "household", index)
    country = "GB" if rng.random() < 0.86 or alone else "US"
    home = network(rng, "residential", country)
    couple = rng.random() < 0.12 and not alone
    share_phone = couple and rng.random() < 0.4
    customers: list[Customer] = []
    spare = 2 * index  # numbers of second phones stand apart from the first ones
    for i in range(2 if couple else 1):
        traits = _traits(rng, family)
        if share_phone and customers:
            lines = customers[0].lines
        elif rng.random() < 0.1 and not alone:
            lines = (
                _line(rng, spare + i, country, family, 0.75, traits),
                _line(rng, spare + 1_000_000 + i, country, family, 0.25, frozenset()),
            )
        else:
            lines = (_line(rng, spare + i, country, family, 1.0, traits),)
        customers.append(_customer(rng, f"acc-{first_account + i:06d}", country, home, lines, traits, family))
    return Household(index, tuple(customers))

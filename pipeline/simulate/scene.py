"""What can a story make happen: the vocabulary of every attack, look-alike and ordinary day."""

from random import Random
from typing import Literal

import msgspec

from pipeline.core.events import AsnKind, Direction, LineChange, Purpose
from pipeline.core.events import Change as ChangeKind
from pipeline.simulate.chance import HOUR, MINUTE, SECOND, Spread, weighted
from pipeline.simulate.facts import (
    Backlog,
    Call,
    Challenge,
    Changed,
    Channel,
    Dispatch,
    Entry,
    Fact,
    Label,
    LineChanged,
    Link,
    Login,
    Text,
)
from pipeline.simulate.family import Family
from pipeline.simulate.identifiers import AGENTS, BANK_ROBOT, BANK_SENDER, Device, Network, Peer, token
from pipeline.simulate.identifiers import network as made_network
from pipeline.simulate.people import Customer, Household, Line

SLOW = Spread(130.0, 0.6)  # seconds, of a delivery that takes more than a minute
Method = Literal["typed", "pasted", "autofill"]


def other_network(rng: Random, country: str) -> Network:
    """Return a network that is nobody's usual one: a friend's or a cafe's, an office's, a VPN's."""
    kind: AsnKind = weighted(rng, (("residential", 0.55), ("mobile", 0.1), ("corporate", 0.13), ("hosting", 0.12), ("proxy", 0.1)))
    return made_network(rng, kind, country)


class Actor(msgspec.Struct, frozen=True, gc=False):
    """Who sits at the keyboard: a device on a network."""

    device: Device
    network: Network


class Diary:
    """All that happens to one household, in the order it was thought up."""

    def __init__(self, household: Household) -> None:
        self.household = household
        self.facts: list[Fact] = []
        self.calls: list[Call] = []
        self.challenges: list[Challenge] = []
        self.backlogs: list[Backlog] = []

    def next_id(self) -> str:
        return f"{self.household.index:x}.{len(self.facts):x}"


class Scene:
    """One customer in one story. Every method returns what it made; instants are milliseconds since the epoch."""

    def __init__(self, diary: Diary, customer: Customer, family: Family, rng: Random, story: str, live_from: int) -> None:
        self.diary = diary
        self.customer = customer
        self.family = family
        self.rng = rng
        self.story = story
        self.label: Label = "benign"
        self.live_from = live_from
        self.challenges: list[Challenge] = []

    def own(self) -> Actor:
        """Return the customer at a keyboard: mostly a usual device on a usual network, now and then neither."""
        rng, c, p = self.rng, self.customer, self.family.people
        u = rng.random()
        network = c.home if u < 0.6 else c.mobile if u < 0.87 or c.work is None else c.work
        if rng.random() < p.other_network:
            network = other_network(rng, c.country)
        devices = c.devices
        device = devices[0] if len(devices) == 1 or rng.random() < 0.7 else devices[rng.randrange(1, len(devices))]
        if c.forgets_devices or rng.random() < p.new_device:
            device = Device(token(rng, "d"), device.user_agent if rng.random() < 0.7 else AGENTS[rng.randrange(len(AGENTS))])
        return Actor(device, network)

    def login(
        self,
        at: int,
        actor: Actor,
        outcome: Literal["passed", "failed", "locked"] = "passed",
        flow: Literal["login", "password_reset"] = "login",
        session: str | None = None,
    ) -> str:
        """Check a password; return the session."""
        session = session or token(self.rng, "s")
        d = self.diary
        d.facts.append(Login(d.next_id(), at, self.customer.account_id, session, outcome, flow, actor.device, actor.network))
        return session

    def challenge(
        self,
        at: int,
        session: str | None,
        purpose: Purpose = "login",
        *,
        agent: bool = False,
        channel: Channel | None = None,
        delay_ms: int | None = None,
        reaches_phone: bool = True,
    ) -> Challenge:
        """Send a code and deliver it; ``channel`` overrides the customer's usual one, ``delay_ms`` how long it takes."""
        c = self.customer
        channel = channel or c.channel
        line = c.lines[0] if channel in {"sms", "voice"} else None
        made = Challenge(
            customer=c,
            otp_id=token(self.rng, "o"),
            session_id=session,
            line=line,
            channel=channel,
            purpose=purpose,
            initiated_by="agent" if agent else "customer",
            dispatched_at=at,
            delivered_at=at,
            expires_at=at,
            story=self.story,
            label=self.label,
            is_history=at < self.live_from,
        )
        self.diary.challenges.append(made)
        self.challenges.append(made)
        self.send(made, at, delay_ms, reaches_phone=reaches_phone)
        return made

    def send(self, challenge: Challenge, at: int, delay_ms: int | None = None, *, reaches_phone: bool = True) -> None:
        """Send the code, for the first time or again; the delivery appears on the line as the text or call that it is."""
        rng, d, c, line = self.rng, self.diary, self.customer, challenge.line
        if delay_ms is None:
            slow = rng.random() < self.family.people.slow_delivery
            delay_ms = max(600, (SLOW if slow else self.family.people.delivery).ms(rng))
        challenge.expires_at = at + c.valid_s * SECOND
        challenge.delivered_at = at + (delay_ms if line is not None else 500)
        names = c.names_sender and line is not None
        sender = None if not names else BANK_SENDER if challenge.channel == "sms" else BANK_ROBOT.number
        common = (
            c.account_id,
            challenge.otp_id,
            challenge.session_id,
            line,
            sender,
            challenge.channel,
            challenge.purpose,
            challenge.initiated_by,
        )
        d.facts.append(Dispatch(d.next_id(), at, *common, "sent", challenge.expires_at))
        if line is None:
            return
        if challenge.channel == "voice":
            if reaches_phone:
                spoken = self.call(at + min(delay_ms, 8000), BANK_ROBOT, line=line, talk_ms=14_000 + int(rng.random() * 16_000))
                challenge.delivered_at = spoken.answered_at + 5000 if spoken.answered_at is not None else at + 9000
            return
        if reaches_phone:
            d.facts.append(Text(d.next_id(), challenge.delivered_at, line, "inbound", BANK_SENDER, False, True, False))
        if rng.random() < 0.7:  # the gateway asks for receipts from some carriers only
            receipt = challenge.delivered_at + 100 + int(rng.random() * 900)
            d.facts.append(Dispatch(d.next_id(), receipt, *common, "delivered", None))

    def enter(
        self,
        challenge: Challenge,
        at: int,
        actor: Actor,
        method: Method | None = "typed",
        *,
        wrong: bool = False,
    ) -> bool:
        """Enter the code, or a wrong one; return whether it was accepted."""
        d = self.diary
        outcome: Literal["accepted", "rejected", "expired"] = (
            "expired" if at > challenge.expires_at else "rejected" if wrong else "accepted"
        )
        d.facts.append(
            Entry(
                d.next_id(),
                at,
                self.customer.account_id,
                challenge.otp_id,
                challenge.session_id,
                challenge.line,
                outcome,
                method,
                actor.device,
                actor.network,
            )
        )
        challenge.entered_at = at
        challenge.accepted = outcome == "accepted"
        return challenge.accepted

    def call(
        self,
        at: int,
        peer: Peer,
        *,
        line: Line | None = None,
        ring_ms: int | None = None,
        talk_ms: int | None = 60_000,
        direction: Direction = "inbound",
        in_app: bool = False,
        phone_notices: bool = True,
    ) -> Call:
        """Place a call that begins at ``at``; ``talk_ms`` None: nobody answers."""
        rng, d = self.rng, self.diary
        line = line or self.customer.lines[0]
        if ring_ms is None:
            ring_ms = 2500 + int(rng.random() * 9500) if talk_ms is not None else 9000 + int(rng.random() * 19_000)
        answered = at + ring_ms if talk_ms is not None else None
        made = Call(
            d.next_id(), token(rng, "c"), line, direction, at, answered, at + ring_ms + (talk_ms or 0), peer, in_app, phone_notices,
        )  # fmt: skip
        d.facts.append(made)
        d.calls.append(made)
        return made

    def text(
        self,
        at: int,
        peer: str | None,
        *,
        line: Line | None = None,
        direction: Direction = "inbound",
        is_contact: bool = False,
        has_code: bool = False,
        has_link: bool = False,
    ) -> None:
        d = self.diary
        d.facts.append(Text(d.next_id(), at, line or self.customer.lines[0], direction, peer, is_contact, has_code, has_link))

    def line_changed(self, at: int, change: LineChange, country: str | None = None, *, told_at: int | None = None) -> None:
        d = self.diary
        d.facts.append(LineChanged(d.next_id(), at, at if told_at is None else told_at, self.customer.lines[0], change, country))

    def linked(self, at: int, line: Line, told_at: int) -> None:
        d = self.diary
        d.facts.append(Link(d.next_id(), at, told_at, line, self.customer.account_id))

    def changed(self, at: int, session: str | None, change: ChangeKind) -> None:
        d = self.diary
        d.facts.append(Changed(d.next_id(), at, self.customer.account_id, session, change))

    def carrier_backlog(self, begin: int, end: int) -> None:
        self.diary.backlogs.append(Backlog(self.customer.lines[0], begin, end))

    def seconds(self, low: float, high: float) -> int:
        """Draw a duration between two bounds in seconds, in milliseconds."""
        return int(1000 * (low + (high - low) * self.rng.random()))

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def reads_code(self, challenge: Challenge) -> int:
        """Return when this customer, undisturbed, has entered the code that came."""
        return challenge.delivered_at + max(2500, self.customer.entry.ms(self.rng))

    def enters_own_code(self, challenge: Challenge, actor: Actor) -> bool:
        """Let the customer enter the code as this customer does: by autofill, with errors, sometimes never."""
        rng, c = self.rng, self.customer
        if rng.random() < self.family.people.incomplete:
            return False
        if challenge.delivered_at - challenge.dispatched_at > 45 * SECOND and rng.random() < 0.5:
            asked_at = challenge.dispatched_at + 35 * SECOND + int(rng.random() * 10_000)
            self.send(challenge, asked_at, 3000 + int(rng.random() * 6000))
        if c.autofill and challenge.channel == "sms" and rng.random() < 0.8:
            return self.enter(challenge, challenge.delivered_at + 1500 + int(rng.random() * 3000), actor, "autofill")
        at = self.reads_code(challenge)
        for _ in range(2):
            if rng.random() >= c.mistyped:
                break
            self.enter(challenge, at, actor, wrong=True)
            at += 4000 + int(c.entry.ms(rng) * 0.7)
        return self.enter(challenge, at, actor, "pasted" if rng.random() < 0.1 else "typed")


__all__ = ["HOUR", "MINUTE", "SECOND", "Actor", "Diary", "Scene"]

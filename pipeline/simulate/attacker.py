"""Who attacks, from where and how: a bot operator with a caller number, machines, patience, and a customer who answers or does not."""

from random import Random
from typing import NamedTuple

import msgspec

from pipeline.core.events import AsnKind
from pipeline.simulate.chance import MINUTE, WORKING, Spread, clock, derived, weighted
from pipeline.simulate.facts import Call, Challenge, Channel
from pipeline.simulate.family import Attackers, Family
from pipeline.simulate.identifiers import AGENTS, BANK_NUMBER, Device, Network, Peer, address, network, stranger_number, token
from pipeline.simulate.people import Line
from pipeline.simulate.scene import Actor, Scene

ABROAD = ("NL", "RO", "NG", "US", "DE", "VN")
CAMPAIGN_EVERY_MS = 3 * 60 * MINUTE  # a bot service runs one campaign in so long
CAMPAIGN_ADDRESSES = 3  # machines or exits that a campaign works from (a proposal: no source says)
CAMPAIGN_ADDRESS_KEPT = 0.6  # of its logins; the others come from an address of their own


class Campaign(msgspec.Struct, frozen=True):
    """One bot service at work: the same caller number, machines and a few addresses over many accounts, within the hour."""

    begin: int
    caller: Peer
    device: Device
    asn_kind: AsnKind
    asn: int
    addresses: tuple[str, ...]


class Picked(NamedTuple):
    """A call that the customer picks up."""

    line: Line
    at: int
    ring_ms: int

    @property
    def answered_at(self) -> int:
        return self.at + self.ring_ms


def _caller(rng: Random, habits: Attackers, country: str) -> Peer:
    level = weighted(rng, habits.attestation)
    u = rng.random()
    if u < habits.spoofs_bank:
        return Peer(BANK_NUMBER, "toll_free", "failed" if rng.random() < 0.2 else level if level != "A" else "B", poses_as_bank=True)
    number = None if u < habits.spoofs_bank + habits.withheld else stranger_number(rng, country)
    return Peer(number, weighted(rng, (("voip", 0.7), ("mobile", 0.2), ("fixed", 0.1))), level)


def campaigns(seed: int, family: Family, begin: int, end: int) -> list[Campaign]:
    """Return the campaigns that run in this window, one in three hours."""
    rng = derived(seed, "campaigns")
    hours = clock(begin, end, 0, WORKING)
    if hours.days <= 0.0:
        return []
    made: list[Campaign] = []
    for number in range(max(1, round((end - begin) / CAMPAIGN_EVERY_MS))):
        kind: AsnKind = weighted(rng, (("hosting", 0.5), ("proxy", 0.5)))
        asn = network(rng, kind, "NL").asn
        device = Device(token(rng, "d"), AGENTS[rng.randrange(5, len(AGENTS))])
        begin_at, caller = hours.pick(rng), _caller(rng, family.attackers, "GB")
        own = derived(seed, "campaign addresses", number)  # apart, so that what was drawn before stays as it was
        addresses = tuple(address(own, kind, asn) for _ in range(CAMPAIGN_ADDRESSES))
        made.append(Campaign(begin_at, caller, device, kind, asn, addresses))
    return made


class Attacker:
    """One attack on one customer."""

    def __init__(self, scene: Scene, campaign: Campaign | None) -> None:
        self.scene = scene
        self.rng = scene.rng
        self.habits = scene.family.attackers
        self.campaign = campaign
        self.caller = campaign.caller if campaign is not None else _caller(self.rng, self.habits, scene.customer.country)
        self.noticed = self.rng.random() < 0.3  # by the phone's own software, when the call comes inside an app
        self.in_app = False
        self.answers: float = self.habits.answered / scene.family.people.answer_stranger
        converts = self.habits.conversion.draw(self.rng) * (1.15 if scene.customer.segment == "older" else 1.0)
        self.convinces = self.rng.random() < min(0.9, converts)

    def actor(self, *, kind: AsnKind | None = None) -> Actor:
        """Return the operator's machine: unknown to the account, from wherever the operator hides."""
        rng, c, campaign = self.rng, self.scene.customer, self.campaign
        agent = c.devices[0].user_agent if rng.random() < self.habits.same_agent else AGENTS[rng.randrange(len(AGENTS))]
        device = campaign.device if campaign is not None and rng.random() < 0.5 else Device(token(rng, "d"), agent)
        country = ABROAD[rng.randrange(len(ABROAD))] if rng.random() < self.habits.abroad else c.country
        if campaign is not None and kind is None:
            drawn = address(rng, campaign.asn_kind, campaign.asn)
            chance = Random(drawn)
            where = chance.choice(campaign.addresses) if chance.random() < CAMPAIGN_ADDRESS_KEPT else drawn
            return Actor(device, Network(campaign.asn, campaign.asn_kind, country, where))
        chosen: AsnKind = weighted(rng, self.habits.proxies) if kind is None else kind
        made = network(rng, chosen, country)
        if chosen == "residential" and rng.random() < 0.25:  # a proxy that happens to be at the customer's own provider
            made = Network(c.home.asn, "residential", c.country, address(rng, "residential", c.home.asn))
        return Actor(device, made)

    def triggers(
        self,
        at: int,
        actor: Actor,
        session: str | None = None,
        *,
        channel: Channel | None = None,
        reaches_phone: bool = True,
    ) -> Challenge:
        """Log in with the stolen password, which makes the bank send a code."""
        scene = self.scene
        if session is None and scene.chance(0.1):  # one of several leaked passwords
            session = scene.login(at - scene.seconds(4, 20), actor, "failed")
        session = scene.login(at, actor, session=session)
        return scene.challenge(at + scene.seconds(0.3, 2.5), session, channel=channel, reaches_phone=reaches_phone)

    def dials(self, at: int, peer: Peer | None = None) -> Picked | None:
        """Ring until somebody picks up, on every line the customer has; return the call that is picked up, not yet told."""
        scene, rng = self.scene, self.rng
        lines = scene.customer.lines
        for i in range(self.habits.dials):
            line = lines[i % len(lines)]
            if rng.random() < min(0.95, line.answers_strangers * self.answers):
                return Picked(line, at, scene.seconds(2.5, 14))
            missed = scene.call(at, peer or self.caller, line=line, talk_ms=None, in_app=self.in_app, phone_notices=self.noticed)
            if rng.random() < 0.25:
                break
            at = missed.ended_at + self.habits.redial.ms(rng)
        return None

    def talks(self, picked: Picked, until: int, peer: Peer | None = None) -> Call:
        """Tell the call that was picked up, now that its end is known."""
        return self.scene.call(
            picked.at,
            peer or self.caller,
            line=picked.line,
            ring_ms=picked.ring_ms,
            talk_ms=max(1500, until - picked.answered_at),
            in_app=self.in_app,
            phone_notices=self.noticed,
        )

    def works_on(
        self, picked: Picked | None, code: Challenge, actor: Actor, script: Spread | None = None, peer: Peer | None = None
    ) -> bool:
        """Talk the code out of the customer and enter it; return whether the account is taken."""
        scene, rng = self.scene, self.rng
        if picked is None:
            if rng.random() < 0.08:
                self.enters(code, code.dispatched_at + scene.seconds(20, 90), actor, wrong=True)
            return False
        if not self.convinces:
            until = picked.answered_at + scene.seconds(2, 45)
            code.call = self.talks(picked, until, peer)
            if rng.random() < 0.15:  # the customer makes something up
                self.enters(code, max(until, code.delivered_at) + scene.seconds(1, 15), actor, wrong=True)
            return False
        told = max(picked.answered_at + (script or self.habits.script).ms(rng), code.delivered_at + scene.seconds(4, 14))
        entered = told + self.habits.relay.ms(rng)
        if rng.random() < 0.1:
            self.enters(code, entered, actor, wrong=True)
            entered += scene.seconds(6, 20)
        # some bots hang up as soon as they have the code, before it is entered
        until = told + scene.seconds(0.3, 2) if rng.random() < 0.25 else entered + self.habits.hang_up.ms(rng)
        code.call = self.talks(picked, until, peer)
        if entered > code.expires_at and rng.random() < 0.5:
            scene.send(code, code.expires_at - scene.seconds(1, 20), 2500)
        taken = self.enters(code, entered, actor)
        if taken:
            self.plunders(entered, code.session_id)
        return taken

    def enters(self, code: Challenge, at: int, actor: Actor, *, wrong: bool = False) -> bool:
        """Enter the code, typed by hand or pasted from the panel."""
        taken = self.scene.enter(code, at, actor, "pasted" if self.rng.random() < 0.3 else "typed", wrong=wrong)
        if taken:
            code.label = "takeover"
        return taken

    def plunders(self, at: int, session: str | None) -> None:
        """Do what accounts are taken for, within minutes; some attackers wait."""
        scene, rng = self.scene, self.rng
        if rng.random() >= self.habits.follow_up:
            return
        at += scene.seconds(8, 150)
        for change, share in (
            ("notifications_off", 0.15),
            ("phone_changed", 0.3),
            ("payee_added", 0.75),
            ("transfer", 0.8),
            ("password_changed", 0.2),
        ):
            if rng.random() < share:
                scene.changed(at, session, change)  # type: ignore[arg-type]
                at += scene.seconds(6, 120)

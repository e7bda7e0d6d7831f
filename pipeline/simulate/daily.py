"""What is an ordinary day: logins with their codes, calls and messages that come for reasons of their own, and the weeks before."""

from random import Random

from pipeline.core.events import Purpose
from pipeline.simulate.chance import DAY, LOGINS, MINUTE, SECOND, WAKING, clock, poisson, weighted
from pipeline.simulate.facts import Call, Challenge, Text
from pipeline.simulate.family import Family
from pipeline.simulate.identifiers import BANK, Peer, stranger_number, token
from pipeline.simulate.people import Household, Line
from pipeline.simulate.scene import Actor, Diary, Scene


def plain_login(scene: Scene, at: int, actor: Actor | None = None, *, asks_code: bool = True) -> Challenge | None:
    """Plain: the customer logs in, is asked for a code, and enters it."""
    actor = actor or scene.own()
    session: str | None = None
    if scene.chance(0.06):
        session = scene.login(at - scene.seconds(5, 25), actor, "failed")
    if asks_code and scene.chance(scene.family.people.resets_password):
        session = scene.login(at, actor, flow="password_reset", session=session)
        challenge = scene.challenge(at + scene.seconds(0.2, 2.0), session, "password_reset")
        if scene.enters_own_code(challenge, actor) and challenge.entered_at is not None:
            scene.changed(challenge.entered_at + scene.seconds(8, 60), session, "password_changed")
        return challenge
    session = scene.login(at, actor, session=session)
    if not asks_code:
        return None
    challenge = scene.challenge(at + scene.seconds(0.2, 2.0), session)
    if scene.enters_own_code(challenge, actor) and challenge.entered_at is not None:
        afterwards(scene, challenge.entered_at, session)
    return challenge


def afterwards(scene: Scene, at: int, session: str | None) -> None:
    """Do in the session what customers do: seldom anything that a thief would do too."""
    if scene.chance(0.03):
        scene.changed(at + scene.seconds(20, 240), session, "payee_added")
    if scene.chance(0.08):
        scene.changed(at + scene.seconds(30, 400), session, "transfer")
    if scene.chance(0.004):
        scene.changed(
            at + scene.seconds(30, 400), session, weighted(scene.rng, (("phone_changed", 1), ("password_changed", 2), ("email_changed", 1)))
        )


def payment_code(scene: Scene, at: int) -> Challenge:
    """Plain: a card payment in a shop's page asks for a code, or a wallet does; the bank sees no login."""
    purpose: Purpose = weighted(scene.rng, (("payment", 0.88), ("wallet_provisioning", 0.07), ("device_binding", 0.05)))
    challenge = scene.challenge(at, None, purpose)
    scene.enters_own_code(challenge, scene.own())
    return challenge


def stranger(rng: Random, country: str) -> tuple[Peer, str]:
    """Return somebody the customer does not know, and of which kind: spam, private or business."""
    kind = weighted(rng, (("spam", 0.45), ("private", 0.33), ("business", 0.22)))
    number = None if rng.random() < 0.08 else stranger_number(rng, country)
    if kind == "spam":
        line, level = (
            weighted(rng, (("voip", 0.7), ("mobile", 0.2), ("fixed", 0.1))),
            weighted(rng, (("A", 0.2), ("B", 0.22), ("C", 0.2), (None, 0.34), ("failed", 0.04))),
        )
    elif kind == "private":
        line, level = (
            weighted(rng, (("mobile", 0.8), ("fixed", 0.15), ("voip", 0.05))),
            weighted(rng, (("A", 0.5), ("B", 0.1), ("C", 0.06), (None, 0.33), ("failed", 0.01))),
        )
    else:
        line, level = (
            weighted(rng, (("fixed", 0.5), ("toll_free", 0.25), ("voip", 0.25))),
            weighted(rng, (("A", 0.5), ("B", 0.15), ("C", 0.05), (None, 0.3))),
        )
    return Peer(number, line, level), kind  # type: ignore[arg-type]


def contact(rng: Random, line: Line) -> Peer:
    """Choose from the circle; the first is called most."""
    return line.circle[int(len(line.circle) * rng.random() ** 2.2)]


class _Day:
    """Calls of one line as they come, none during another; the stories' calls were there first."""

    def __init__(self, diary: Diary, line: Line, family: Family, rng: Random) -> None:
        self.diary, self.line, self.family, self.rng = diary, line, family, rng
        self.taken = [(c.at - 3000, c.ended_at + 3000) for c in diary.calls if c.line is line]

    def call(self, at: int, peer: Peer, talk_ms: int | None, *, outbound: bool = False) -> None:
        rng, d = self.rng, self.diary
        ring = 2500 + int(rng.random() * (11_000 if talk_ms is not None else 24_000))
        end = at + ring + (talk_ms or 0)
        if any(at < e and b < end for b, e in self.taken):
            return
        self.taken.append((at, end))
        made = Call(
            d.next_id(), token(rng, "c"), self.line, "outbound" if outbound else "inbound", at,
            at + ring if talk_ms is not None else None, end, peer,
        )  # fmt: skip
        d.facts.append(made)
        d.calls.append(made)

    def from_stranger(self, at: int) -> None:
        rng, p = self.rng, self.family.people
        peer, kind = stranger(rng, self.line.country)
        answers = rng.random() < self.line.answers_strangers
        talk = {"spam": p.spam_talk, "private": p.stranger_talk, "business": p.business_talk}[kind]
        self.call(at, peer, max(1500, talk.ms(rng)) if answers else None)

    def from_contact(self, at: int) -> None:
        rng, line = self.rng, self.line
        answers = rng.random() < line.answers_contacts
        self.call(at, contact(rng, line), max(2000, self.family.people.contact_talk.ms(rng)) if answers else None)

    def outbound(self, at: int) -> None:
        rng, p, line = self.rng, self.family.people, self.line
        u = rng.random()
        answered = rng.random() < 0.72
        if u < 0.8:
            self.call(at, contact(rng, line), max(2000, p.contact_talk.ms(rng)) if answered else None, outbound=True)
        elif u < 0.985:
            self.call(at, stranger(rng, line.country)[0], max(2000, p.business_talk.ms(rng)) if answered else None, outbound=True)
        else:
            self.call(at, BANK, max(20_000, 2 * p.business_talk.ms(rng)), outbound=True)

    def text(self, at: int) -> None:
        rng, line, d = self.rng, self.line, self.diary
        u = rng.random()
        if u < 0.6:
            fact = Text(
                d.next_id(), at, line, "inbound" if u < 0.33 else "outbound", contact(rng, line).number, True, False, rng.random() < 0.03
            )
        else:
            named = rng.random() < 0.5
            peer = f"SHOP{rng.randrange(400)}" if named else stranger_number(rng, line.country)
            fact = Text(d.next_id(), at, line, "inbound", peer, False, rng.random() < 0.25, rng.random() < 0.35)
        d.facts.append(fact)


def telephony(diary: Diary, line: Line, family: Family, rng: Random, begin: int, end: int, offset_min: int) -> None:
    """Let calls and messages come to one line for reasons of their own, independent of every login."""
    waking = clock(begin, end, offset_min, WAKING)
    day = _Day(diary, line, family, rng)
    for rate, happens in (
        (line.stranger_calls, day.from_stranger),
        (line.contact_calls, day.from_contact),
        (line.outbound_calls, day.outbound),
        (line.texts, day.text),
    ):
        for _ in range(poisson(rng, rate * waking.days)):
            happens(waking.pick(rng))


def arrive_in_world(scene: Scene, begin: int, rng: Random) -> None:
    """Tell what was there before the log: links, old changes of the line."""
    c = scene.customer
    for line in c.lines:
        if rng.random() < 0.95:  # the others are learned from where codes go
            scene.linked(begin - int(rng.uniform(30, 900) * DAY), line, begin + int(rng.random() * 60_000))
    if rng.random() < 0.2:
        scene.line_changed(begin - int(rng.uniform(0.5, 390) * DAY), "sim_swapped", told_at=begin + MINUTE + int(rng.random() * 60_000))
    if rng.random() < 0.015:
        forwarded = int(rng.uniform(0.2, 30) * DAY)
        scene.line_changed(begin - forwarded, "forwarding_on", told_at=begin + MINUTE)
        if rng.random() < 0.7:
            scene.line_changed(begin - int(forwarded * rng.random()), "forwarding_off", told_at=begin + MINUTE)
    if "forwards_calls" in c.traits:
        scene.line_changed(begin - int(rng.uniform(40, 380) * DAY), "forwarding_on", told_at=begin + MINUTE + int(rng.random() * 60_000))


def history(diary: Diary, household: Household, family: Family, rng: Random, begin: int, end: int, *, calls: bool) -> None:
    """Give a household a thin past: enough logins, and ``calls`` unless they are real ones, to know devices, networks, circle and pace."""
    days = (end - begin) / DAY
    for c in household.customers:
        scene = Scene(diary, c, family, rng, "plain", end)
        if c.is_new or days <= 0:
            arrive_in_world(scene, end - 2 * MINUTE if days > 0 else end, rng)
            continue
        arrive_in_world(scene, begin, rng)
        logins = clock(begin, end, c.offset_min, LOGINS)
        networks = [c.home, c.mobile] + ([c.work] if c.work else [])
        actors = [Actor(d, networks[min(i, len(networks) - 1)]) for i, d in enumerate(c.devices)]
        actors += [Actor(c.devices[0], n) for n in networks[1:]]
        actors += [scene.own() for _ in range(min(6, poisson(rng, c.logins * days * 0.35)))]
        for actor in actors:
            _old_login(scene, logins.pick(rng), actor)
        if c.accountant is not None:
            device, network, adviser = c.accountant
            for _ in range(3):
                _old_login(scene, logins.pick(rng), Actor(device, network), adviser)
    if not calls or days <= 0:
        return
    waking = clock(begin, end, household.customers[0].offset_min, WAKING)
    for line in household.lines:
        day = _Day(diary, line, family, rng)
        for peer in line.circle[: 3 + len(line.circle) // 3]:
            talk = max(2000, family.people.contact_talk.ms(rng))
            day.call(waking.pick(rng), peer, talk, outbound=rng.random() < 0.4)
        for _ in range(min(4, poisson(rng, line.stranger_calls * days * 0.1))):
            day.from_stranger(waking.pick(rng))


def _old_login(scene: Scene, at: int, actor: Actor, adviser: Peer | None = None) -> None:
    scene.story = "B17" if scene.customer.channel == "voice" else "plain"
    if adviser is not None:
        scene.call(at + 8 * SECOND, adviser, talk_ms=scene.seconds(50, 200))
    plain_login(scene, at, actor, asks_code=scene.chance(0.85))

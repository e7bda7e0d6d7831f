"""What looks like an attack and is none: the eighteen look-alikes, each one function with its story."""

from collections.abc import Callable
from random import Random

from pipeline.core.events import Direction, Purpose
from pipeline.simulate.chance import HOUR, derived, weighted
from pipeline.simulate.daily import afterwards, contact, plain_login, stranger
from pipeline.simulate.identifiers import AGENTS, BANK, Device, Network, Peer, address, device, network, stranger_number, token
from pipeline.simulate.people import Customer, Trait
from pipeline.simulate.scene import Actor, Scene

Lookalike = Callable[[Scene, int], None]
ABROAD = ("ES", "FR", "IT", "DK", "GR")
SHIFT = 3 * HOUR  # a call centre shows one number for so long


def b1(scene: Scene, at: int) -> None:
    """The customer phones the bank, and the agent sends a code to be sure who is speaking."""
    answered = at + scene.seconds(2, 40)
    purpose: Purpose = weighted(scene.rng, (("device_binding", 1), ("payment", 1), ("password_reset", 1)))
    code = scene.challenge(answered + scene.seconds(25, 120), None, purpose, agent=True, channel="sms")
    desk = Actor(Device("d-agent-desk", AGENTS[5]), Network(64506, "corporate", scene.customer.country, "203.0.113.10"))
    entered = code.delivered_at + scene.seconds(8, 35)
    scene.enter(code, entered, desk if scene.chance(0.7) else scene.own())
    code.call = scene.call(at, BANK, direction="outbound", ring_ms=answered - at, talk_ms=entered - answered + scene.seconds(60, 600))


def b2(scene: Scene, at: int) -> None:
    """The bank's own fraud team rings about a payment; the customer logs in while they speak."""
    call = scene.call(at, BANK, talk_ms=scene.seconds(150, 600))
    assert call.answered_at is not None
    code = plain_login(scene, call.answered_at + scene.seconds(30, 100))
    if code is not None:
        code.call = call


def b3(scene: Scene, at: int) -> None:
    """A new phone is set up from a backup: new device, new SIM, the same home. No call."""
    scene.line_changed(at - scene.seconds(3600, 6 * 3600), "sim_swapped")
    actor = Actor(device(scene.rng, phone=True), scene.customer.home)
    code = plain_login(scene, at, actor)
    if code is not None and code.accepted and code.entered_at is not None:
        scene.changed(code.entered_at + scene.seconds(10, 90), code.session_id, "device_bound")


def b4(scene: Scene, at: int) -> None:
    """Somebody of the family logs in on a tablet while the owner reads the code out over the phone."""
    c, rng = scene.customer, scene.rng
    home = Network(c.home.asn, "residential", c.country, address(rng, "residential", c.home.asn))
    actor = Actor(device(rng, phone=False), c.home if scene.chance(0.6) else home)
    _dictated(scene, at, actor, contact(rng, c.lines[0]))


def _dictated(scene: Scene, at: int, actor: Actor, helper: Peer) -> None:
    answered = at + scene.seconds(3, 14)
    now = answered + scene.seconds(20, 90)
    code = scene.challenge(now + scene.seconds(0.3, 2), scene.login(now, actor), channel="sms")
    entered = code.delivered_at + scene.seconds(8, 35)
    scene.enter(code, entered, actor)
    direction: Direction = "inbound" if scene.chance(0.7) else "outbound"
    talk = entered - answered + scene.seconds(20, 300)
    code.call = scene.call(at, helper, direction=direction, ring_ms=answered - at, talk_ms=talk)


def b5(scene: Scene, at: int) -> None:
    """A traveller logs in from a hotel abroad, and the reception rings."""
    rng = scene.rng
    country = ABROAD[rng.randrange(len(ABROAD))]
    scene.line_changed(at - scene.seconds(2 * 3600, 60 * 3600), "roaming_on", country)
    actor = Actor(scene.customer.devices[0], network(rng, "corporate" if scene.chance(0.6) else "mobile", country))
    if scene.chance(0.7):
        scene.call(at + scene.seconds(-20, 15), Peer(stranger_number(rng, "US"), "fixed", None), talk_ms=scene.seconds(10, 60))
    plain_login(scene, at, actor)


def b6(scene: Scene, at: int) -> None:
    """The phone fills the code in by itself, within seconds; now and then somebody happens to be on the line."""
    actor = scene.own()
    if scene.chance(0.3):
        scene.call(at - scene.seconds(10, 60), stranger(scene.rng, scene.customer.country)[0], talk_ms=scene.seconds(80, 200))
    session = scene.login(at, actor)
    code = scene.challenge(at + scene.seconds(0.3, 2), session, channel="sms")
    scene.enter(code, code.delivered_at + scene.seconds(1.5, 4), actor, "autofill")
    afterwards(scene, code.delivered_at, session)


def b7(scene: Scene, at: int) -> None:
    """The text is slow, the customer asks for it again and again, and enters it late."""
    actor = scene.own()
    code = scene.challenge(at + scene.seconds(0.3, 2), scene.login(at, actor), channel="sms", delay_ms=scene.seconds(140, 220))
    arrives = code.delivered_at
    now = code.dispatched_at
    for _ in range(3):
        now += scene.seconds(25, 50)
        scene.send(code, now, max(5000, arrives - now + scene.seconds(0, 15)))
    scene.enter(code, scene.reads_code(code), actor)


def b8(scene: Scene, at: int) -> None:
    """A courier or a doctor's office happens to ring, and the customer answers, while logging in."""
    peer, _ = stranger(scene.rng, scene.customer.country)
    call = scene.call(at + scene.seconds(-25, 6), peer, talk_ms=scene.seconds(40, 170))
    code = plain_login(scene, at)
    if code is not None:
        code.call = call


def b9(scene: Scene, at: int) -> None:
    """A telemarketer's robot rings while the code is under way, and is not answered."""
    own = stranger_number(scene.rng, scene.customer.country)
    peer = Peer(call_centre(own, "telemarketer", at, scene.customer.country), "voip", "B" if scene.chance(0.5) else "C")
    scene.call(at + scene.seconds(0, 20), peer, talk_ms=None)
    plain_login(scene, at)


def call_centre(own: str, what: str, at: int, country: str) -> str:
    """A number that most callers of a kind show to everybody for a shift; ``own``: the one drawn for this caller, kept by the others."""
    return own if Random(own).random() < 0.3 else stranger_number(derived(0, what, country, at // SHIFT), country)


def b10(scene: Scene, at: int) -> None:
    """The customer is in a long meeting or work call and logs in meanwhile."""
    before = scene.seconds(600, 2400)
    talk = before + scene.seconds(300, 1800)
    if scene.chance(0.5):
        call = scene.call(at - before, Peer(None), talk_ms=talk, in_app=True)
    elif scene.chance(0.6):
        call = scene.call(at - before, contact(scene.rng, scene.customer.lines[0]), talk_ms=talk)
    else:
        office = Peer(stranger_number(scene.rng, scene.customer.country), "fixed", "A")
        call = scene.call(at - before, office, direction="outbound", talk_ms=talk)
    code = plain_login(scene, at)
    if code is not None:
        code.call = call


def b11(scene: Scene, at: int) -> None:
    """The accountant logs in from a data centre, as every month, and the client dictates the code over the phone."""
    assert scene.customer.accountant is not None
    machine, where, adviser = scene.customer.accountant
    _dictated(scene, at, Actor(machine, where), adviser)


def b12(scene: Scene, at: int) -> None:
    """The company's number has been forwarded to an assistant for a year; the code is read out there."""
    actor = scene.own()
    code = scene.challenge(at + scene.seconds(0.3, 2), scene.login(at, actor), channel="voice")
    scene.enter(code, code.delivered_at + scene.seconds(6, 25), actor)


def b13(scene: Scene, at: int) -> None:
    """The carrier's feed stands still and comes back all at once, out of order."""
    scene.carrier_backlog(at - scene.seconds(60, 600), at + scene.seconds(240, 1500))
    if scene.chance(0.6):
        peer = contact(scene.rng, scene.customer.lines[0]) if scene.chance(0.5) else stranger(scene.rng, scene.customer.country)[0]
        scene.call(at - scene.seconds(30, 240), peer, talk_ms=scene.seconds(15, 200))
    plain_login(scene, at)


def b14(scene: Scene, at: int) -> None:
    """A lost SIM is replaced in a shop, and the first login follows within the hour, at the usual place."""
    scene.line_changed(at - scene.seconds(600, 3000), "sim_swapped")
    c = scene.customer
    plain_login(scene, at, Actor(c.devices[0], c.mobile if scene.chance(0.6) else c.home))


def b15(scene: Scene, at: int) -> None:
    """A customer to whom small screens are hard takes long and errs more than once."""
    actor = scene.own()
    code = scene.challenge(at + scene.seconds(0.3, 2), scene.login(at, actor))
    now = code.delivered_at + scene.seconds(35, 90)
    for _ in range(scene.rng.randrange(1, 4)):
        scene.enter(code, now, actor, wrong=True)
        now += scene.seconds(20, 60)
        if scene.chance(0.25):
            scene.send(code, now)
            now = max(now, code.delivered_at) + scene.seconds(20, 50)
    scene.enter(code, now, actor)


def b16(scene: Scene, at: int) -> None:
    """The bank tests itself: on a test account, a robot call with everything an attack has."""
    actor = Actor(Device(token(scene.rng, "d"), AGENTS[8]), network(scene.rng, "hosting", scene.customer.country))
    code = scene.challenge(at + 800, scene.login(at, actor))
    call = scene.call(
        code.dispatched_at + scene.seconds(5, 20), Peer(stranger_number(scene.rng, scene.customer.country), "voip", "B"), talk_ms=40_000
    )
    assert call.answered_at is not None
    scene.enter(code, call.answered_at + scene.seconds(12, 30), actor)
    code.call = call


def b17(scene: Scene, at: int) -> None:
    """The code itself comes as a call that a machine reads it out in."""
    actor = scene.own()
    code = scene.challenge(at + scene.seconds(0.2, 2), scene.login(at, actor), channel="voice")
    scene.enters_own_code(code, actor)


def b18(scene: Scene, at: int) -> None:
    """The code's own text comes from a sender never seen, and then somebody happens to call."""
    actor = scene.own()
    code = scene.challenge(at + scene.seconds(0.2, 2), scene.login(at, actor), channel="sms")
    peer, _ = stranger(scene.rng, scene.customer.country)
    call = scene.call(code.delivered_at + scene.seconds(1, 15), peer, ring_ms=scene.seconds(2, 6), talk_ms=scene.seconds(20, 120))
    assert call.answered_at is not None
    entered = scene.reads_code(code) if scene.chance(0.4) else call.answered_at + scene.seconds(4, 40)
    scene.enter(code, entered, actor)
    code.call = call


LOOKALIKES: dict[str, Lookalike] = {
    "B1": b1,
    "B2": b2,
    "B3": b3,
    "B4": b4,
    "B5": b5,
    "B6": b6,
    "B7": b7,
    "B8": b8,
    "B9": b9,
    "B10": b10,
    "B11": b11,
    "B12": b12,
    "B13": b13,
    "B14": b14,
    "B15": b15,
    "B16": b16,
    "B17": b17,
    "B18": b18,
}
WEIGHTS: dict[str, float] = {
    "B1": 9, "B2": 5, "B3": 5, "B4": 8, "B5": 6, "B6": 8, "B7": 8, "B8": 14, "B9": 10, "B10": 10, "B11": 150, "B12": 150, "B13": 4,
    "B14": 3, "B15": 40, "B16": 10_000, "B17": 4, "B18": 7,
}  # fmt: skip
TRAITS: dict[str, Trait] = {"B11": "accountant", "B12": "forwards_calls", "B16": "tester"}
# such customers live their story again and again
OFTENER: dict[Trait, float] = {"accountant": 4.0, "forwards_calls": 4.0, "tester": 25.0}


def suited(customer: Customer, rng: Random, stories: frozenset[str] | None) -> str | None:
    """Choose a story that can happen to this customer, among those wanted."""
    choices = [(s, w) for s, w in WEIGHTS.items() if (stories is None or s in stories) and _can_happen(s, customer)]
    return weighted(rng, choices) if choices else None


def _can_happen(story: str, customer: Customer) -> bool:
    if story in TRAITS:
        return TRAITS[story] in customer.traits
    if story == "B15":
        return customer.segment == "older"
    return "tester" not in customer.traits


def share(customer: Customer, lookalikes: float) -> float:
    """Return the share of this customer's logins that are a story of their own."""
    for trait, times in OFTENER.items():
        if trait in customer.traits:
            return min(1.0, lookalikes * times)
    return lookalikes

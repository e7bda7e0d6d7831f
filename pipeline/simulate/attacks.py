"""What do attackers do: the fourteen variants, each one function with its story; most attempts come to nothing."""

from collections.abc import Callable

from pipeline.simulate.attacker import Attacker
from pipeline.simulate.chance import DAY, HOUR, MINUTE, Spread
from pipeline.simulate.identifiers import Device, Network, Peer, address, stranger_number, token
from pipeline.simulate.scene import Actor, Scene

Attack = Callable[[Scene, Attacker, int], None]
AGENT_SCRIPT = Spread(32.0, 0.5)  # seconds until a talking machine has the code


def v1(scene: Scene, attacker: Attacker, at: int) -> None:
    """A robot calls right after the code was sent and asks the customer to key it in; the operator enters it while the call is live."""
    actor = attacker.actor()
    code = attacker.triggers(at, actor)
    picked = attacker.dials(code.dispatched_at + attacker.habits.start.ms(scene.rng))
    attacker.works_on(picked, code, actor)


def v2(scene: Scene, attacker: Attacker, at: int) -> None:
    """The robot calls first; the operator logs in and triggers the code once the customer is on the line."""
    actor = attacker.actor()
    picked = attacker.dials(at)
    if picked is None:
        if scene.chance(0.3):
            attacker.triggers(at + scene.seconds(20, 90), actor)
        return
    code = attacker.triggers(picked.answered_at + attacker.habits.warm_up.ms(scene.rng), actor)
    attacker.works_on(picked, code, actor)


def v3(scene: Scene, attacker: Attacker, at: int) -> None:
    """A person with a panel keeps the customer on the line for minutes and asks for several codes, one after the other."""
    actor = attacker.actor()
    picked = attacker.dials(at)
    if picked is None:
        return
    now = picked.answered_at + min(8 * MINUTE, attacker.habits.human_script.ms(scene.rng) // 2)
    code = attacker.triggers(now, actor)
    if not attacker.convinces:
        attacker.works_on(picked, code, actor)
        return
    codes = [code]
    for purpose in ("login", "new_payee", "payment")[: scene.rng.randrange(1, 4)]:
        if purpose != "login":
            now += scene.seconds(15, 90)
            code = scene.challenge(now, code.session_id, purpose)  # type: ignore[arg-type]
            codes.append(code)
        now = code.delivered_at + scene.seconds(8, 40) + attacker.habits.relay.ms(scene.rng)
        attacker.enters(code, now, actor)
    call = attacker.talks(picked, max(now + 5 * attacker.habits.hang_up.ms(scene.rng), picked.answered_at + scene.seconds(180, 420)))
    for code in codes:
        code.call = call
    attacker.plunders(now, code.session_id)


def v4(scene: Scene, attacker: Attacker, at: int) -> None:
    """A talking machine calls from a rented number whose caller id the carrier vouches for."""
    actor = attacker.actor()
    peer = Peer(stranger_number(scene.rng, scene.customer.country), "voip" if scene.chance(0.5) else "mobile", "A")
    code = attacker.triggers(at, actor)
    picked = attacker.dials(code.dispatched_at + attacker.habits.start.ms(scene.rng), peer)
    attacker.works_on(picked, code, actor, AGENT_SCRIPT, peer)


def v5(scene: Scene, attacker: Attacker, at: int) -> None:
    """No call: a text asks the customer to answer with the code, and the customer does."""
    actor = attacker.actor()
    code = attacker.triggers(at, actor)
    asker = attacker.caller.number or stranger_number(scene.rng, scene.customer.country)
    asked = code.dispatched_at + scene.seconds(-15, 30)
    scene.text(asked, asker)
    if not attacker.convinces or scene.chance(0.4):
        if scene.chance(0.3):
            scene.text(asked + scene.seconds(30, 90), asker)
        return
    told = max(asked, code.delivered_at) + scene.seconds(12, 75)
    scene.text(told, asker, direction="outbound", has_code=scene.chance(0.8))
    entered = told + scene.seconds(1, 3) + attacker.habits.relay.ms(scene.rng)
    if attacker.enters(code, entered, actor):
        attacker.plunders(entered, code.session_id)


def v6(scene: Scene, attacker: Attacker, at: int) -> None:
    """A text warns of a payment, then every phone of the customer rings until one is answered."""
    actor = attacker.actor()
    sender = attacker.caller.number if scene.chance(0.4) else f"ALERT{scene.rng.randrange(90)}"
    scene.text(at, sender, has_link=scene.chance(0.2))
    code = attacker.triggers(at + scene.seconds(20, 100), actor)
    now = code.dispatched_at + scene.seconds(-15, 10)
    for line in scene.customer.lines * scene.rng.randrange(1, 3):
        now = scene.call(now, attacker.caller, line=line, talk_ms=None).ended_at + scene.seconds(3, 15)
    attacker.works_on(attacker.dials(now), code, actor)


def v7(scene: Scene, attacker: Attacker, at: int) -> None:
    """One code after the other until the customer is tired, then the call that offers to make it stop."""
    actor = attacker.actor()
    code = attacker.triggers(at, actor)
    now = code.dispatched_at
    for _ in range(scene.rng.randrange(3, 9)):
        now += scene.seconds(15, 80)
        if scene.chance(0.45):
            scene.send(code, now)
        else:
            code = attacker.triggers(now, actor, session=code.session_id)
    attacker.works_on(attacker.dials(now + scene.seconds(-20, 60)), code, actor)


def v8(scene: Scene, attacker: Attacker, at: int) -> None:
    """The number was moved to another SIM: the code comes to the thief's own phone. No call."""
    scene.line_changed(at - scene.seconds(600, 20 * 3600), "sim_swapped")
    actor = attacker.actor(kind="mobile" if scene.chance(0.5) else None)
    code = attacker.triggers(at, actor)
    if scene.chance(0.2):
        return
    entered = code.delivered_at + scene.seconds(3, 12)
    if attacker.enters(code, entered, actor):
        attacker.plunders(entered, code.session_id)


def v9(scene: Scene, attacker: Attacker, at: int) -> None:
    """Calls to the number are forwarded, and the code is asked for by voice: the customer's phone stays silent."""
    scene.line_changed(at - scene.seconds(240, 30 * 3600), "forwarding_on")
    actor = attacker.actor()
    code = attacker.triggers(at, actor, channel="voice", reaches_phone=False)
    if scene.chance(0.2):
        return
    entered = code.delivered_at + scene.seconds(6, 18)
    if attacker.enters(code, entered, actor):
        attacker.plunders(entered, code.session_id)
    if scene.chance(0.6):
        scene.line_changed(entered + scene.seconds(300, 7200), "forwarding_off")


def v10(scene: Scene, attacker: Attacker, at: int) -> None:
    """The code puts the card into the thief's wallet or confirms a payment: there is no login at all."""
    actor = attacker.actor()
    code = scene.challenge(at, None, "wallet_provisioning" if scene.chance(0.7) else "payment")
    picked = attacker.dials(at + attacker.habits.start.ms(scene.rng))
    attacker.works_on(picked, code, actor)


def v11(scene: Scene, attacker: Attacker, at: int) -> None:
    """The thief has no password and resets it; the code for that is talked out of the customer."""
    actor = attacker.actor()
    session = scene.login(at, actor, flow="password_reset")
    code = scene.challenge(at + scene.seconds(0.3, 2.5), session, "password_reset")
    picked = attacker.dials(code.dispatched_at + attacker.habits.start.ms(scene.rng))
    if attacker.works_on(picked, code, actor) and code.entered_at is not None:
        scene.changed(code.entered_at + scene.seconds(5, 40), session, "password_changed")


def v12(scene: Scene, attacker: Attacker, at: int) -> None:
    """A patient thief came days ago by the customer's own provider, and calls when the machine has become an acquaintance."""
    c, rng = scene.customer, scene.rng
    network = Network(c.home.asn, "residential", c.country, address(rng, "residential", c.home.asn))
    actor = Actor(Device(token(rng, "d"), c.devices[0].user_agent), network)
    for days in (4, 3, 1)[: rng.randrange(2, 4)]:
        scene.login(at - days * DAY + scene.seconds(-3 * 3600, 3 * 3600), actor)
    code = attacker.triggers(at, actor)
    picked = attacker.dials(code.dispatched_at + attacker.habits.start.ms(rng))
    attacker.works_on(picked, code, actor)


def v13(scene: Scene, attacker: Attacker, at: int) -> None:
    """The call comes inside a messenger: no telephone network sees it."""
    attacker.in_app = True
    actor = attacker.actor()
    code = attacker.triggers(at, actor)
    picked = attacker.dials(code.dispatched_at + attacker.habits.start.ms(scene.rng))
    attacker.works_on(picked, code, actor)


def v14(scene: Scene, attacker: Attacker, at: int) -> None:
    """A page that looks like the bank's passes everything on: the customer types the code there, at a customer's pace."""
    if scene.chance(0.7):
        scene.text(at - scene.seconds(60, 1800), f"INFO{scene.rng.randrange(90)}", has_link=True)
    actor = attacker.actor(kind="hosting" if scene.chance(0.5) else "residential")
    code = attacker.triggers(at, actor)
    if not attacker.convinces:
        return
    entered = scene.reads_code(code) + scene.seconds(0.5, 2.5)
    if attacker.enters(code, entered, actor):
        attacker.plunders(entered + scene.seconds(0, HOUR // 1000) if scene.chance(0.3) else entered, code.session_id)


ATTACKS: dict[str, Attack] = {
    "V1": v1,
    "V2": v2,
    "V3": v3,
    "V4": v4,
    "V5": v5,
    "V6": v6,
    "V7": v7,
    "V8": v8,
    "V9": v9,
    "V10": v10,
    "V11": v11,
    "V12": v12,
    "V13": v13,
    "V14": v14,
}

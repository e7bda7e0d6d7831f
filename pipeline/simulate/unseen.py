"""What if attacks come that no choice was made for? Three variants, V16 to V18, kept away from every choice: they only measure the drop.

Written from public reports, without sight of the detector's features, rules, weights, thresholds or results; of the design, the author
knew the notes on the domain, which list ideas for features and rules. Whoever chooses any of these must leave the three alone.

- V16: https://shieldandfortify.com/bank-impersonation-scam/ (a text in the bank's own thread, the customer rings the number in it),
  https://news.trendmicro.com/2022/07/16/bank-mobile-alert-you-just-sent-a-payment-scams/ (toll-free numbers, one for many texts),
  https://securityonline.info/rise-of-toad-attacks-voip-infrastructure-cisco-talos-report/ (55 % of such numbers are VoIP)
- V17: https://en.androidsis.com/How-WhatsApp-accounts-are-stolen-through-voicemail/ (a case at INCIBE: calls from abroad that nobody
  answered, then the code in the mailbox), https://me-en.kaspersky.com/blog/hacking-online-accounts-via-voice-mail/11643 (PINs),
  https://inews.co.uk/news/technology/whatsapp-voicemail-scam-warning-hackers-access-account-advice-206796 (at night)
- V18: http://www.thehindu.com/news/cities/mumbai/698-lakh-lost-by-sharing-otp-28-times/article24069504.ece (the same man rang daily for
  a week), https://storypick.com/mumbai-woman-online-banking-scam/ (he used SIM cards of his own)

Numbers without a source are proposals.
"""

from random import Random
from typing import NamedTuple

import msgspec

from pipeline.core.events import Attestation
from pipeline.simulate.attacker import Attacker, Picked
from pipeline.simulate.attacks import Attack
from pipeline.simulate.chance import DAY, HOUR, MINUTE, WORKING, Spread, weighted
from pipeline.simulate.facts import Challenge
from pipeline.simulate.identifiers import BANK_ROBOT, BANK_SENDER, Peer, stranger_number
from pipeline.simulate.recorded import USUAL
from pipeline.simulate.scene import Actor, Scene

SHARE = 0.1  # attacks of each of these kinds for each of all the others: as common as V2

RINGS_BACK = 0.5  # of those whom the thieves picked; the many more who get the text and shrug are no attack here
HESITATES = Spread(540.0, 1.0)  # seconds from the text to the customer's call
OWN_NUMBER: tuple[tuple[Attestation | None, float], ...] = (("A", 0.5), ("B", 0.12), ("C", 0.06), (None, 0.32))  # rented, not forged

NIGHT_OR_WORK = tuple(1.0 if h < 6 or h >= 23 else 0.3 if 9 <= h < 17 else 0.1 for h in range(24))  # when phones are left alone
AWAKE = 7  # o'clock
ANSWERS_ASLEEP = 0.15  # as often as by day
MAILBOX_OPENS = 0.35  # there is a mailbox, and its PIN is the carrier's own or easily guessed

PUT_OFF = 0.3  # of those who will not tell a code end it before one is sent
SAVED = 0.5  # of numbers that were met often count as a contact: the customer saved it, or the carrier counts calls


def v16(scene: Scene, attacker: Attacker, at: int) -> None:
    """A text warns of a payment and gives a number to ring; the customer rings the thief, who logs in and asks for the codes."""
    rng = scene.rng
    hotline, sender = _bait(scene, attacker)
    scene.text(at - min(3 * HOUR, HESITATES.ms(rng)), sender)
    if not scene.chance(RINGS_BACK):
        return
    picked = Picked(scene.customer.lines[0], at, scene.seconds(2, 25))
    if not attacker.convinces and scene.chance(PUT_OFF):
        _speak(scene, picked, picked.answered_at + scene.seconds(10, 150), hotline, outbound=True)
        return
    _codes_read_out(scene, attacker, picked, hotline, outbound=True)


def v17(scene: Scene, attacker: Attacker, at: int) -> None:
    """The code is spoken into the mailbox of a phone that nobody answers, and the thief calls the mailbox, whose PIN is easily guessed."""
    rng, c = scene.rng, scene.customer
    line = c.lines[0]
    by_day = (at + c.offset_min * MINUTE) % DAY >= AWAKE * HOUR
    answers = min(0.95, line.answers_strangers * attacker.answers) * (1.0 if by_day else ANSWERS_ASLEEP)
    level = weighted(rng, attacker.habits.attestation)
    prober = Peer(stranger_number(rng, "US" if scene.chance(0.3) else c.country), "voip", level)
    for _ in range(rng.randrange(3)):  # does anybody answer?
        if scene.chance(answers):
            scene.call(at, prober, line=line, talk_ms=scene.seconds(1.5, 5))
            return
        at = scene.call(at, prober, line=line, talk_ms=None).ended_at + scene.seconds(10, 90)
    actor = attacker.actor()
    if c.channel != "voice" and scene.chance(0.6):  # the code comes as always, and the thief asks to be called instead
        usual = attacker.triggers(at, actor)
        code = scene.challenge(usual.dispatched_at + scene.seconds(30, 90), usual.session_id, channel="voice", reaches_phone=False)
    else:
        code = attacker.triggers(at, actor, channel="voice", reaches_phone=False)
    rings = code.dispatched_at + scene.seconds(1, 6)
    if scene.chance(0.5 * answers):
        code.delivered_at = rings + scene.seconds(9, 20)
        scene.call(rings, BANK_ROBOT, line=line, ring_ms=code.delivered_at - rings - 5000, talk_ms=scene.seconds(10, 30))
        return
    missed = scene.call(rings, BANK_ROBOT, line=line, ring_ms=scene.seconds(15, 30), talk_ms=None)
    code.delivered_at = missed.ended_at + scene.seconds(15, 35)  # after the greeting
    if not scene.chance(MAILBOX_OPENS):
        return
    entered = code.delivered_at + scene.seconds(15, 110)
    if attacker.enters(code, entered, actor):
        attacker.plunders(entered, code.session_id)


def v18(scene: Scene, attacker: Attacker, at: int) -> None:
    """A caller with time: he rings for days about the customer's card and is rung back, before he asks for a code."""
    rng, days = scene.rng, scene.rng.randrange(2, 8)
    number = stranger_number(rng, scene.customer.country)
    peer = Peer(number, "mobile" if scene.chance(0.65) else "voip", weighted(rng, OWN_NUMBER))
    first = attacker.dials(at - days * DAY + scene.seconds(-3600, 3600), peer)
    if first is None:
        return
    _speak(scene, first, first.answered_at + scene.seconds(60, 900), peer)
    if not attacker.convinces and scene.chance(PUT_OFF):
        return
    met = 1
    for day in range(days - 1, 0, -1):
        if scene.chance(0.3):  # not every day
            continue
        met += 1
        outbound = scene.chance(0.25)
        answered = scene.chance(0.9 if outbound else first.line.answers_contacts)
        talk = scene.seconds(40, 720) if answered else None
        when = at - day * DAY + scene.seconds(-3600, 3600)
        scene.call(when, peer, line=first.line, talk_ms=talk, direction="outbound" if outbound else "inbound")
    known = msgspec.structs.replace(peer, is_contact=met >= USUAL and scene.chance(SAVED))
    for _ in range(3):
        if scene.chance(first.line.answers_contacts):
            _codes_read_out(scene, attacker, Picked(first.line, at, scene.seconds(2.5, 14)), known)
            return
        at = scene.call(at, known, line=first.line, talk_ms=None).ended_at + scene.seconds(60, 1800)


def _bait(scene: Scene, attacker: Attacker) -> tuple[Peer, str]:
    """Return the number to ring and the sender of the text; a campaign has one of each."""
    rng, campaign = scene.rng, attacker.campaign
    chance = rng if campaign is None else Random(campaign.device.device_id)
    country = scene.customer.country if campaign is None else "GB"
    number = stranger_number(chance, country)
    hotline = Peer(number, weighted(chance, (("voip", 0.55), ("toll_free", 0.35), ("mobile", 0.1))), weighted(chance, OWN_NUMBER))
    named = f"ALERT{chance.randrange(90)}"
    return hotline, weighted(chance, ((BANK_SENDER, 0.4), (named, 0.35), (stranger_number(chance, country), 0.25)))


def _speak(scene: Scene, picked: Picked, until: int, peer: Peer, codes: list[Challenge] | None = None, *, outbound: bool = False) -> None:
    """Tell the call, now that its end is known, and that these codes were asked for in it."""
    talk = max(1500, until - picked.answered_at)
    call = scene.call(
        picked.at, peer, line=picked.line, ring_ms=picked.ring_ms, talk_ms=talk, direction="outbound" if outbound else "inbound"
    )
    for code in codes or ():
        code.call = call


def _codes_read_out(scene: Scene, attacker: Attacker, picked: Picked, peer: Peer, *, outbound: bool = False) -> None:
    """Log in while the customer is on the line, and have the code read out, and perhaps one more for the money."""
    rng = scene.rng
    actor = attacker.actor()
    codes = [attacker.triggers(picked.answered_at + min(8 * MINUTE, attacker.habits.human_script.ms(rng) // 2), actor)]
    if not attacker.convinces:
        _speak(scene, picked, codes[0].delivered_at + scene.seconds(5, 90), peer, codes, outbound=outbound)
        return
    now = _enters_told(scene, attacker, codes[0], actor)
    if codes[0].accepted and scene.chance(0.4):
        more = scene.challenge(now + scene.seconds(20, 150), codes[0].session_id, "new_payee" if scene.chance(0.6) else "payment")
        codes.append(more)
        now = _enters_told(scene, attacker, more, actor) if scene.chance(0.8) else more.delivered_at + scene.seconds(10, 60)
    _speak(scene, picked, now + scene.seconds(10, 300), peer, codes, outbound=outbound)
    if codes[0].accepted:
        attacker.plunders(now, codes[0].session_id)


def _enters_told(scene: Scene, attacker: Attacker, code: Challenge, actor: Actor) -> int:
    """Enter the code once it is read out, now and then misheard at first; return when."""
    entered = code.delivered_at + scene.seconds(8, 40) + attacker.habits.relay.ms(scene.rng)
    if scene.chance(0.1):
        attacker.enters(code, entered, actor, wrong=True)
        entered += scene.seconds(8, 25)
    attacker.enters(code, entered, actor)
    return entered


class Unseen(NamedTuple):
    attack: Attack
    hours: tuple[float, ...]  # weight of each local hour
    in_campaigns: bool  # whether it is also done in bulk, with numbers and machines that are shared


UNSEEN: dict[str, Unseen] = {
    "V16": Unseen(v16, WORKING, in_campaigns=True),
    "V17": Unseen(v17, NIGHT_OR_WORK, in_campaigns=False),
    "V18": Unseen(v18, WORKING, in_campaigns=False),
}

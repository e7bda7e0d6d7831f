"""What happens to one household from the first day of the log to the last: its past, its stories, and the days around them."""

from collections.abc import Callable
from random import Random

import msgspec

from pipeline.simulate.attacker import Attacker, Campaign
from pipeline.simulate.attacks import ATTACKS
from pipeline.simulate.chance import LOGINS, MINUTE, WORKING, Clock, clock, derived, poisson, weighted
from pipeline.simulate.daily import history, payment_code, plain_login, telephony
from pipeline.simulate.emerging import SHARE as EMERGING
from pipeline.simulate.emerging import STORY, v15
from pipeline.simulate.family import Family
from pipeline.simulate.lookalikes import LOOKALIKES, share, suited
from pipeline.simulate.people import Customer, Line
from pipeline.simulate.recorded import Recording, midnight_before
from pipeline.simulate.scene import Diary, Scene
from pipeline.simulate.unseen import SHARE as UNSEEN_SHARE
from pipeline.simulate.unseen import UNSEEN

WAVE_SHARE = 0.05  # of the customers, within WAVE_MS: an attack at scale (a proposal: no source says)
RUSH_SHARE = 0.1  # of the customers log in again when an app has logged everybody out, within WAVE_MS (a proposal)
WAVE_MS = 20 * MINUTE
PAYMENTS = 0.15  # a day: codes for card payments, without a login


class Real(msgspec.Struct, frozen=True):
    """A recording that takes the place of simulated telephony, and whose line is whose."""

    recording: Recording
    lines: dict[int, Line]  # by participant


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the world is to be: instants in ms since the epoch, the rest as in :func:`run.simulate`."""

    seed: int
    family: Family
    begin: int  # of the history
    live_from: int
    end: int
    prior: float
    lookalikes: float
    stories: frozenset[str] | None
    campaigns: list[Campaign]
    real: Real | None = None
    emerging: int | None = None  # when an attack begins that nobody has seen
    wave: int | None = None  # when an attack at scale begins
    rush: int | None = None  # when everybody has to log in again
    unseen: bool = False  # whether the variants that no choice was made for take place

    def wants(self, story: str) -> bool:
        return self.stories is None or story in self.stories


def live_through(diary: Diary, plan: Plan) -> None:
    """Fill the diary. Chance is derived per matter, so that the attacks change next to nothing about the rest."""
    home = diary.household
    history(diary, home, plan.family, derived(plan.seed, "history", home.index), plan.begin, plan.live_from, calls=plan.real is None)
    for customer in home.customers:
        _honest(diary, customer, plan)
        _attacked(diary, customer, plan)
        if plan.emerging is not None:
            _surprised(diary, customer, plan, plan.emerging)
        if plan.wave is not None:
            _in_a_wave(diary, customer, plan, plan.wave)
        if plan.rush is not None:
            _in_a_rush(diary, customer, plan, plan.rush)
    if plan.unseen:  # last, so that what is found out about the others stays as it was
        for customer in home.customers:
            _caught_unprepared(diary, customer, plan)
    if plan.real is not None:
        participant = plan.real.recording.participants[home.index]
        rng = derived(plan.seed, "recorded", home.index)
        plan.real.recording.play(diary, participant, plan.real.lines, midnight_before(plan.begin), plan.end, rng)
        return
    for line in home.lines:
        rng = derived(plan.seed, "telephony", line.number)
        telephony(diary, line, plan.family, rng, plan.live_from, plan.end, home.customers[0].offset_min)


def _honest(diary: Diary, customer: Customer, plan: Plan) -> None:
    seed, name = plan.seed, customer.account_id
    rng = derived(seed, "honest", name)
    hours = clock(plan.live_from, plan.end, customer.offset_min, LOGINS)
    plain = _plain(customer)
    for _ in range(poisson(rng, customer.logins * hours.days)):
        at = hours.pick(rng)
        own = derived(seed, name, at)
        story = suited(customer, own, plan.stories) if own.random() < share(customer, plan.lookalikes) else None
        scene = Scene(diary, customer, plan.family, own, story or plain, plan.live_from)
        if story is None:
            plain_login(scene, at, asks_code=own.random() < plan.family.people.code_share)
        else:
            LOOKALIKES[story](scene, at)
    for _ in range(poisson(rng, PAYMENTS * hours.days)):
        at = hours.pick(rng)
        payment_code(Scene(diary, customer, plan.family, derived(seed, name, "payment", at), plain, plan.live_from), at)


def _plain(customer: Customer) -> str:
    """The story of an ordinary code: one that is told in a call is a look-alike by itself."""
    return "B17" if customer.channel == "voice" else "plain"


def _attacked(diary: Diary, customer: Customer, plan: Plan) -> None:
    name = customer.account_id
    rng = derived(plan.seed, "attacked", name)
    hours = clock(plan.live_from, plan.end, customer.offset_min, WORKING)
    choices = [c for c in plan.family.attackers.stories if plan.wants(c[0])]
    if not choices or hours.days <= 0.0:
        return
    for _ in range(poisson(rng, plan.prior * _expected(customer, plan, plan.live_from) * _tempting(customer))):
        story = weighted(rng, choices)
        campaign, at = _struck(rng, plan, hours)
        _strike(
            Scene(diary, customer, plan.family, derived(plan.seed, "attack", name, at), story, plan.live_from), ATTACKS[story], campaign, at
        )


def _strike(scene: Scene, attack: Callable[[Scene, Attacker, int], None], campaign: Campaign | None, at: int) -> None:
    scene.label = "attempt"
    attack(scene, Attacker(scene, campaign), at)


def _expected(customer: Customer, plan: Plan, begin: int) -> float:
    """How many codes the customer asks for from ``begin`` (ms) to the end, on average."""
    days = clock(begin, plan.end, customer.offset_min, LOGINS).days
    return (customer.logins * plan.family.people.code_share + PAYMENTS) * days


def _tempting(customer: Customer) -> float:
    return 1.7 if customer.segment == "older" else 0.88  # the older are 29 % of reported cases (domain.md A3)


def _struck(rng: Random, plan: Plan, hours: Clock, *, in_campaigns: bool = True) -> tuple[Campaign | None, int]:
    """Choose when an attack begins, and of which campaign it is part, if of any."""
    campaign = plan.campaigns[rng.randrange(len(plan.campaigns))] if in_campaigns and plan.campaigns and rng.random() < 0.4 else None
    at = hours.pick(rng)
    if campaign is not None:
        at = min(plan.end - 1, campaign.begin + int(rng.random() * plan.family.attackers.campaign_min * MINUTE))
    return campaign, at


def _caught_unprepared(diary: Diary, customer: Customer, plan: Plan) -> None:
    name = customer.account_id
    for story, kind in UNSEEN.items():
        rng = derived(plan.seed, "unseen", story, name)
        hours = clock(plan.live_from, plan.end, customer.offset_min, kind.hours)
        if hours.days <= 0.0:
            continue
        for _ in range(poisson(rng, UNSEEN_SHARE * plan.prior * _expected(customer, plan, plan.live_from) * _tempting(customer))):
            campaign, at = _struck(rng, plan, hours, in_campaigns=kind.in_campaigns)
            _strike(
                Scene(diary, customer, plan.family, derived(plan.seed, "unseen", story, name, at), story, plan.live_from),
                kind.attack,
                campaign,
                at,
            )


def _surprised(diary: Diary, customer: Customer, plan: Plan, begin: int) -> None:
    name = customer.account_id
    rng = derived(plan.seed, "emerging", name)
    hours = clock(begin, plan.end, customer.offset_min, WORKING)
    if hours.days <= 0.0:
        return
    for _ in range(poisson(rng, EMERGING * plan.prior * _expected(customer, plan, begin))):
        at = hours.pick(rng)
        _strike(Scene(diary, customer, plan.family, derived(plan.seed, "emerging", name, at), STORY, plan.live_from), v15, None, at)


def _in_a_wave(diary: Diary, customer: Customer, plan: Plan, begin: int) -> None:
    """Attacks as ever, by callers and machines of their own, on many customers at once."""
    name = customer.account_id
    rng = derived(plan.seed, "wave", name)
    choices = [c for c in plan.family.attackers.stories if plan.wants(c[0])]
    if not choices or rng.random() >= WAVE_SHARE:
        return
    story, at = weighted(rng, choices), begin + int(rng.random() * WAVE_MS)
    _strike(Scene(diary, customer, plan.family, derived(plan.seed, "wave", name, at), story, plan.live_from), ATTACKS[story], None, at)


def _in_a_rush(diary: Diary, customer: Customer, plan: Plan, begin: int) -> None:
    """An outage of the app: customers log in again, each with a code."""
    rng = derived(plan.seed, "rush", customer.account_id)
    if rng.random() >= RUSH_SHARE:
        return
    at = begin + int(rng.random() * WAVE_MS)
    own = derived(plan.seed, "rush", customer.account_id, at)
    plain_login(Scene(diary, customer, plan.family, own, _plain(customer), plan.live_from), at, asks_code=True)

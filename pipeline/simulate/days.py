"""What happens to one household from the first day of the log to the last: its past, its stories, and the days around them."""

from collections.abc import Sequence

from pipeline.simulate.attacker import Attacker, Campaign
from pipeline.simulate.attacks import ATTACKS
from pipeline.simulate.chance import LOGINS, MINUTE, WORKING, clock, derived, poisson, weighted
from pipeline.simulate.daily import history, payment_code, plain_login, telephony
from pipeline.simulate.family import Family
from pipeline.simulate.lookalikes import LOOKALIKES, share, suited
from pipeline.simulate.people import Customer
from pipeline.simulate.scene import Diary, Scene

PAYMENTS = 0.15  # a day: codes for card payments, without a login


def live_through(
    diary: Diary,
    seed: int,
    family: Family,
    *,
    window_begin: int,
    live_from: int,
    end: int,
    prior: float,
    lookalikes: float,
    stories: Sequence[str] | None,
    running: list[Campaign],
) -> None:
    """Fill the diary; chance is derived per matter, so that the attacks change nothing about the rest."""
    home = diary.household
    history(diary, home, family, derived(seed, "history", home.index), window_begin, live_from)
    for customer in home.customers:
        _honest(diary, customer, family, seed, live_from, end, lookalikes, stories)
        _attacked(diary, customer, family, seed, live_from, end, prior, stories, running)
    for line in home.lines:
        rng = derived(seed, "telephony", line.number)
        telephony(diary, line, family, rng, live_from, end, home.customers[0].offset_min)


def _honest(
    diary: Diary, customer: Customer, family: Family, seed: int, begin: int, end: int, lookalikes: float, stories: Sequence[str] | None
) -> None:
    rng = derived(seed, "honest", customer.account_id)
    hours = clock(begin, end, customer.offset_min, LOGINS)
    plain = "B17" if customer.channel == "voice" else "plain"
    for _ in range(poisson(rng, customer.logins * hours.days)):
        at = hours.pick(rng)
        own = derived(seed, customer.account_id, at)
        story = suited(customer, own, stories) if own.random() < share(customer, lookalikes) else None
        if story is None:
            asks = own.random() < family.people.code_share
            plain_login(Scene(diary, customer, family, own, plain, begin), at, asks_code=asks)
        else:
            LOOKALIKES[story](Scene(diary, customer, family, own, story, begin), at)
    for _ in range(poisson(rng, PAYMENTS * hours.days)):
        at = hours.pick(rng)
        payment_code(Scene(diary, customer, family, derived(seed, customer.account_id, "payment", at), plain, begin), at)


def _attacked(
    diary: Diary,
    customer: Customer,
    family: Family,
    seed: int,
    begin: int,
    end: int,
    prior: float,
    stories: Sequence[str] | None,
    running: list[Campaign],
) -> None:
    rng = derived(seed, "attacked", customer.account_id)
    days = clock(begin, end, customer.offset_min, LOGINS).days
    hours = clock(begin, end, customer.offset_min, WORKING)
    choices = [c for c in family.attackers.stories if stories is None or c[0] in stories]
    if not choices or hours.days <= 0.0:
        return
    expected = (customer.logins * family.people.code_share + PAYMENTS) * days
    tempting = 1.7 if customer.segment == "older" else 0.88  # the older are 29 % of reported cases
    for _ in range(poisson(rng, prior * expected * tempting)):
        story = weighted(rng, choices)
        campaign = running[rng.randrange(len(running))] if running and rng.random() < 0.4 else None
        at = hours.pick(rng)
        if campaign is not None:
            at = min(end - 1, campaign.begin + int(rng.random() * family.attackers.campaign_min * MINUTE))
        scene = Scene(diary, customer, family, derived(seed, "attack", customer.account_id, at), story, begin)
        scene.label = "attempt"
        ATTACKS[story](scene, Attacker(scene, campaign), at)

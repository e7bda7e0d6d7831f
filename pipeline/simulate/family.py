"""Which numbers is the world made of: three families of parameters, the second and the third held out for evaluation and never tuned on.

Family a is the world of the anchors. In b customers are on the phone more and attackers hide better, abroad and at random; in c
customers are like those of a, and attackers are an industry: local addresses, vouched-for numbers, a machine that relays the code at once.
"""

from typing import Literal

import msgspec

from pipeline.core.events import AsnKind, Attestation
from pipeline.simulate.chance import Span, Spread

FamilyName = Literal["a", "b", "c"]


class People(msgspec.Struct, frozen=True, kw_only=True):
    """What ordinary customers do. Sources: domain.md, "Generator anchors"."""

    stranger_calls: float = 2.0  # a day (Hiya: 61 of 114 a month)
    contact_calls: float = 1.8  # a day (the rest of 3.8)
    outbound_calls: float = 2.2  # a day
    texts: float = 3.5  # a day, both directions
    answer_stranger: float = 0.24  # Hiya
    answer_contact: float = 0.83  # so that 52 % of all calls are answered (Hiya)
    spam_talk: Spread = Spread(8.0, 0.8)  # seconds; mean 11 (Hiya)
    stranger_talk: Spread = Spread(22.0, 0.96)  # mean 35 (Hiya)
    business_talk: Spread = Spread(115.0, 0.9)  # mean 173 (Hiya)
    contact_talk: Spread = Spread(75.0, 1.1)  # 60 % of all calls under 90 s (Ofcom)
    logins: Spread = Spread(0.5, 0.8)  # a day
    code_share: float = 0.75  # of logins ask for a code
    delivery: Spread = Spread(4.0, 0.8)  # seconds
    slow_delivery: float = 0.03  # take more than a minute
    entry: Spread = Spread(12.0, 0.35)  # seconds after delivery: the spread of people's own medians
    entry_sigma: float = 0.45  # and of one person around it
    incomplete: float = 0.044  # codes never entered (Duo: 4.35 %)
    mistyped: float = 0.04
    older: float = 0.15  # share of customers who are slower
    autofill: float = 0.3
    voice_codes: float = 0.05
    new_device: float = 0.025  # of logins: another phone, browser, or an emptied one
    forgets_devices: float = 0.03  # of customers look like a new device every time
    other_network: float = 0.07  # of logins: a friend's, a cafe's, a hotel's, or a VPN
    resets_password: float = 0.015  # of logins
    valid_s: tuple[int, ...] = (300, 600)


class Attackers(msgspec.Struct, frozen=True, kw_only=True):
    """What bots and their operators do."""

    start: Span = Span(5.0, 30.0)  # code sent -> first dial, seconds
    warm_up: Span = Span(12.0, 60.0)  # answer -> code triggered, when the call comes first
    answered: float = 0.24  # per dial, of an average customer
    dials: int = 5
    redial: Span = Span(4.0, 35.0)
    script: Spread = Spread(14.0, 0.35)  # answer -> the victim has told the code, seconds (one documented call: 19 s)
    human_script: Spread = Spread(240.0, 0.6)  # a person on the line: 3 to 15 min
    relay: Spread = Spread(5.0, 0.7)  # the code told -> entered by the operator
    hang_up: Spread = Spread(4.0, 0.9)  # entered -> the call ends
    conversion: Span = Span(0.3, 0.8)  # given an answer
    proxies: tuple[tuple[AsnKind, float], ...] = (("hosting", 0.35), ("proxy", 0.35), ("residential", 0.3))
    abroad: float = 0.3  # the login comes from another country
    same_agent: float = 0.3  # imitates the customer's own browser
    attestation: tuple[tuple[Attestation | None, float], ...] = ((None, 0.35), ("C", 0.25), ("B", 0.22), ("A", 0.1), ("failed", 0.08))
    spoofs_bank: float = 0.25  # shows the bank's own number
    withheld: float = 0.08
    campaign_min: int = 45  # one caller number is used for so long
    follow_up: float = 0.8  # payee, transfer, new phone within minutes
    stories: tuple[tuple[str, float], ...] = (
        ("V1", 22), ("V2", 10), ("V3", 8), ("V4", 8), ("V5", 6), ("V6", 8), ("V7", 7),
        ("V8", 5), ("V9", 3), ("V10", 5), ("V11", 6), ("V12", 4), ("V13", 4), ("V14", 4),
    )  # fmt: skip


class Family(msgspec.Struct, frozen=True, kw_only=True):
    name: FamilyName
    people: People
    attackers: Attackers


FAMILIES: dict[FamilyName, Family] = {
    "a": Family(name="a", people=People(), attackers=Attackers()),
    "b": Family(
        name="b",
        people=People(
            stranger_calls=3.1,
            contact_calls=1.4,
            outbound_calls=1.7,
            answer_stranger=0.31,
            answer_contact=0.75,
            spam_talk=Spread(12.0, 0.9),
            stranger_talk=Spread(30.0, 1.1),
            business_talk=Spread(140.0, 1.0),
            contact_talk=Spread(95.0, 1.2),
            delivery=Spread(6.0, 0.9),
            slow_delivery=0.045,
            entry=Spread(16.0, 0.45),
            entry_sigma=0.6,
            incomplete=0.048,
            mistyped=0.06,
            older=0.22,
            autofill=0.2,
            voice_codes=0.08,
            new_device=0.04,
            forgets_devices=0.045,
            other_network=0.11,
            resets_password=0.025,
        ),
        attackers=Attackers(
            start=Span(0.5, 75.0),
            warm_up=Span(25.0, 150.0),
            answered=0.31,
            dials=3,
            redial=Span(15.0, 90.0),
            script=Spread(26.0, 0.6),
            human_script=Spread(150.0, 0.8),
            relay=Spread(11.0, 0.9),
            hang_up=Spread(18.0, 1.2),
            conversion=Span(0.2, 0.6),
            proxies=(("hosting", 0.12), ("proxy", 0.18), ("residential", 0.7)),
            abroad=0.12,
            same_agent=0.6,
            attestation=((None, 0.3), ("C", 0.12), ("B", 0.2), ("A", 0.33), ("failed", 0.05)),
            spoofs_bank=0.1,
            withheld=0.2,
            campaign_min=15,
            follow_up=0.6,
            stories=(
                ("V1", 10), ("V2", 14), ("V3", 14), ("V4", 14), ("V5", 4), ("V6", 5), ("V7", 4),
                ("V8", 4), ("V9", 3), ("V10", 6), ("V11", 5), ("V12", 7), ("V13", 5), ("V14", 5),
            ),
        ),
    ),
    "c": Family(
        name="c",
        people=People(
            stranger_calls=1.4,
            contact_calls=2.6,
            answer_stranger=0.18,
            contact_talk=Spread(110.0, 1.2),
            entry=Spread(9.0, 0.4),
            autofill=0.5,
            voice_codes=0.02,
            new_device=0.03,
            other_network=0.12,
        ),
        attackers=Attackers(
            start=Span(0.0, 12.0),
            warm_up=Span(5.0, 25.0),
            answered=0.2,
            dials=8,
            redial=Span(2.0, 10.0),
            script=Spread(11.0, 0.25),
            human_script=Spread(400.0, 0.5),
            relay=Spread(1.5, 0.4),
            hang_up=Spread(1.0, 0.6),
            conversion=Span(0.4, 0.9),
            proxies=(("mobile", 0.4), ("residential", 0.45), ("hosting", 0.15)),
            abroad=0.05,
            same_agent=0.8,
            attestation=((None, 0.25), ("C", 0.1), ("B", 0.15), ("A", 0.48), ("failed", 0.02)),
            spoofs_bank=0.15,
            withheld=0.04,
            campaign_min=90,
            follow_up=0.9,
            stories=(
                ("V1", 12), ("V2", 8), ("V3", 6), ("V4", 14), ("V5", 8), ("V6", 6), ("V7", 6),
                ("V8", 6), ("V9", 5), ("V10", 8), ("V11", 6), ("V12", 5), ("V13", 5), ("V14", 5),
            ),
        ),
    ),
}  # fmt: skip

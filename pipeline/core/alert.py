"""What do we tell people? Assessment -> Finding: a deterministic uid, a sentence to read aloud, the story with times, the next step."""

from datetime import UTC, datetime

from pipeline.core.decision import Assessment, finding_uid
from pipeline.core.episode import Episode
from pipeline.core.events import Ms
from pipeline.core.features import Features, as_dict
from pipeline.core.model import BASE
from pipeline.core.outcome import Evidence, Finding, Reason
from pipeline.core.policy import Policy
from pipeline.core.profile import Profile
from pipeline.core.rules import RULES_BY_NAME
from pipeline.core.timeline import Track
from pipeline.core.usual import beside, sentence, surge_sentence

TRAITS = 8  # reasons shown on an alert: more than an analyst reads
VERDICTS: dict[str, int] = {  # OCSF verdict_id (contract.md, dispositions)
    "false_positive": 1,
    "true_positive": 2,
    "disregard": 3,
    "suspicious": 4,
    "benign": 5,
    "test": 6,
    "insufficient_data": 7,
    "duplicate": 10,
}
CLOSING_VERDICTS = frozenset(("true_positive", "false_positive", "disregard", "benign", "test", "duplicate"))


def clock(at: Ms) -> str:
    """Say a time as an analyst reads it: hours, minutes and seconds, UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M:%S")


def make(
    assessment: Assessment,
    profile: Profile,
    track: Track,
    account_id: str,
    incident: str,
    part_of: str | None,
    events: tuple[Evidence, ...],
    time: Ms,
    missing: tuple[str, ...],
    truncated: bool,
    policy: Policy,
    model_id: str,
    version: str,
) -> Finding:
    """Make the finding of an assessment at level alert; created the first time, updated after that."""
    e, f = assessment.episode, assessment.features
    old = track.finding
    positive = tuple(r for r in assessment.score.reasons if r.name != BASE)[:TRAITS]
    session = e.challenge.session_id or (e.login.session_id if e.login is not None else None)
    live = _call_live_now(assessment, policy)
    return Finding(
        uid=finding_uid(account_id, e.challenge.otp_id),
        sequence=1 if old is None else old.sequence + 1,
        activity="create" if old is None else "update",
        incident_id=incident,
        part_of=part_of,
        account_id=account_id,
        otp_id=e.challenge.otp_id,
        session_id=session,
        time=time,
        created_time=time if old is None else old.created_time,
        first_seen=min((x.occurred_at for x in events if x.type != "line_changed"), default=e.start),
        last_seen=max((x.occurred_at for x in events), default=e.start),
        stage=assessment.stage,
        level=assessment.level,
        probability=assessment.score.probability,
        threshold=assessment.threshold,
        title=_title(assessment),
        message=_message(assessment),
        story=story(assessment, profile, policy),
        advice=_advice(assessment, session),
        contact_advice="on the phone with somebody now: ask to hang up first, then call a number of record; not by text"
        if live
        else "call a number of record; not by text, the attacker may read or answer it",
        close_reason=None,
        verdict_id=0,
        kinds=_kinds(assessment),
        attacks=_attacks(assessment),
        rules=assessment.rules,
        reasons=positive,
        events=events,
        data=_data(f, assessment, profile, policy),
        ip=_ip(e),
        caller=assessment.call.peer[0] if assessment.call is not None and assessment.call.peer else None,
        decision_deadline=None if e.used else e.expires_at,
        feeds=tuple(sorted({x.feed for x in events})),
        feeds_missing=missing,
        call_live=live,
        session_open=True if e.used else (None if e.login is None else e.login.outcome == "passed"),
        money_moved=None if "account-changes" in missing else f.money_moved,
        linked_accounts=_linked_accounts(e, profile),
        truncated=truncated,
        policy_id=policy.id,
        model_id=model_id,
        version=version,
        expires_at=None if e.used else e.expires_at,
    )


def _linked_accounts(e: Episode, profile: Profile) -> int | None:
    """How many accounts the line that the code went to serves, as far as is known now."""
    line = next((s.line for s in (*e.challenge.sends, *e.challenge.receipts) if s.line is not None), None)
    link = profile.links.get(line) if line is not None else None
    return None if link is None else link.accounts


def _call_live_now(assessment: Assessment, policy: Policy) -> bool | None:
    if not assessment.features.telephony_known:
        return None
    call = assessment.call
    if call is None:
        return False
    return call.ended is None and not call.missed and call.live_at(assessment.episode.now, policy.windows)


def _strongest(assessment: Assessment) -> list[Reason]:
    return [r for r in assessment.score.reasons if r.contribution > 0 and r.name != BASE and r.name not in RULES_BY_NAME]


def _title(a: Assessment) -> str:
    f = a.features
    if a.stage == "near_miss":
        return "Attempt to take over the account with a one-time code"
    if f.code_texted_out:
        return "One-time code texted to a stranger"
    if f.unexplained_call:
        return (
            "One-time code read out to a caller"
            if f.entered and not f.refused
            else "Customer on the phone with a stranger while a code is open"
        )
    if f.hours_since_sim_swap is not None and f.hours_since_sim_swap <= 240:
        return "One-time code used after a SIM swap"
    if f.forwarding_active:
        return "One-time code sent to a forwarded line"
    return "One-time code used by somebody else" if f.entered else "One-time code asked for by somebody else"


def _message(a: Assessment) -> str:
    """One sentence to read aloud: the entry (or the open code), when, and the three strongest reasons."""
    e, f = a.episode, a.features
    if e.used:
        when = f"The code was entered at {clock(e.moment)}"
        if f.entry_latency_s is not None:
            when += f", {f.entry_latency_s:.0f} s after it was sent"
    elif a.stage == "near_miss":
        when = f"The code sent at {clock(e.start)} was " + ("refused" if f.refused else "never entered")
    else:
        when = f"The code sent at {clock(e.start)} has not been entered yet"
    texts = [r.text for r in _strongest(a)[:3]]
    return f"{when}: {'; '.join(texts)}." if texts else f"{when}."


def _kinds(a: Assessment) -> tuple[str, ...]:
    f = a.features
    kinds = ["account_takeover_attempt" if a.stage in ("before_entry", "near_miss") else "account_takeover"]
    if f.unexplained_call:
        kinds.append("otp_relay_voice")
    if f.code_texted_out or (f.stranger_text_before_call and not f.call_live):
        kinds.append("otp_relay_text")
    if f.hours_since_sim_swap is not None and f.hours_since_sim_swap <= 240:
        kinds.append("sim_swap")
    return tuple(kinds)


def _attacks(a: Assessment) -> tuple[str, ...]:
    ids = ["T1111", "F1006.002"]
    for hit in a.rules:
        ids += RULES_BY_NAME[hit.name].attacks
    if a.features.caller_claims_bank:
        ids.append("F1040.002")
    return tuple(dict.fromkeys(ids))


def _ip(e: Episode) -> str | None:
    if e.entry is not None and e.entry.ip is not None:
        return e.entry.ip
    return e.login.ip if e.login is not None else None


def _advice(a: Assessment, session: str | None) -> str:
    which = f"session {session}" if session is not None else "every session of the account"
    if a.stage == "before_entry":
        return (
            f"Refuse the code and end {which}. The customer may be on the phone with the attacker: reach them after they have hung up. "
            "Change the password."
        )
    if a.stage == "near_miss":
        return "The password is stolen although the code was not used: make the customer change it, and warn them. Offer a passkey."
    return (
        f"End {which} and hold payments. Undo what was changed after the entry. Reach the customer on a number of record. Offer a passkey."
    )


def story(a: Assessment, profile: Profile, policy: Policy) -> str:
    """Tell what happened, in order, with times (UTC) and the account's own normal at the end."""
    e, f = a.episode, a.features
    told: list[tuple[Ms, str]] = []
    if e.login is not None:
        device = {True: "on a device never seen", False: "on a known device", None: ""}[f.new_device]
        kind = f", {e.login.asn_kind} network" if e.login.asn_kind else ""
        asn = f" AS{e.login.asn}" if e.login.asn is not None else ""
        told.append((e.login.occurred_at, f"password accepted {device}{kind}{asn}".replace("  ", " ").strip()))
    for i, send in enumerate(e.challenge.sends):
        verb = "could not be sent" if send.status == "failed" else "sent again" if i else "sent"
        told.append((send.occurred_at, f"code for {send.purpose.replace('_', ' ')} {verb} by {send.channel}"))
    call = a.call
    if call is not None and call.answered is not None:
        who = (
            "the bank's own call"
            if call.is_bank
            else "a call from a usual contact"
            if call.is_contact
            else "a call the customer made"
            if call.direction == "outbound"
            else "a call from a number never seen"
            if f.caller_never_seen
            else "a call"
        )
        vouched = f" (attestation {call.attestation})" if call.attestation else ""
        told.append((call.answered, f"{who}{vouched} answered"))
        if call.ended is not None and call.ended <= e.now:
            told.append((call.ended, "call ended"))
    for entry in e.challenge.entries:
        how = {"typed": "typed", "pasted": "pasted", "autofill": "filled in"}.get(entry.method or "", "entered")
        live = ", call still live" if call is not None and f.call_live and entry is e.entry else ""
        told.append((entry.occurred_at, f"code {how} and {entry.outcome}{live}"))
    told += [(c.occurred_at, f"then {c.change.replace('_', ' ')}") for c in e.changes]
    if not e.used and e.now >= e.expires_at:
        told.append((e.expires_at, "code expired unused"))
    parts = [f"{clock(at)} {what}." for at, what in sorted(told)]
    usual = sentence(f, e, profile, policy)
    if usual is not None:
        parts.append(usual)
    for count, what in (
        (f.same_caller_accounts, "The same caller rang"),
        (f.same_sender_accounts, "The same sender texted"),
        (f.same_device_accounts, "The same device was new on"),
        (f.same_network_accounts, "The same address was new on"),
    ):
        if count is not None:
            parts.append(f"{what} {count} accounts with an open code within the hour.")
    surged = surge_sentence(f, e, policy)
    if surged is not None:
        parts.append(surged)
    if f.hours_since_sim_swap is not None and f.hours_since_sim_swap <= 240:
        parts.append(f"The SIM was swapped {f.hours_since_sim_swap:.0f} h before.")
    return " ".join(parts)


def _data(f: Features, a: Assessment, profile: Profile, policy: Policy) -> dict[str, object]:
    """The features with the account's own normal beside them."""
    data: dict[str, object] = dict(as_dict(f))
    beside(data, f, a.episode, profile, policy)
    if a.call is not None and a.call.peer:
        data["caller"] = a.call.peer[0]
    return data

"""Did a stranger text before the call, and did the code leave by text? Feature T10 and the reply of V5."""

from pipeline.core.calls import CallSeen
from pipeline.core.episode import Episode
from pipeline.core.events import Ms
from pipeline.core.features.stranger import is_stranger
from pipeline.core.policy import Policy
from pipeline.core.profile import Profile

STRANGER_TEXT_MS = 120_000  # T10: a text this long before the call


def message_features(f: dict[str, object], e: Episode, profile: Profile, policy: Policy, around: list[CallSeen]) -> None:
    messages = e.messages
    if messages:
        senders = set(profile.senders).union(*(s.sender for s in e.challenge.sends))
        messages = [m for m in messages if senders.isdisjoint(m.peer)]  # the code's own delivery says nothing
    if not messages and not profile.texters:
        return  # no message feed for this customer
    strange_from: list[tuple[Ms, tuple[str, ...]]] = []
    first_ring = min((c.started for c in around), default=None)
    sent = [s.occurred_at for s in e.challenge.sends if s.channel == "sms"]
    texted_out = False
    before_call = False
    unexplained = set(range(len(sent)))  # a dispatch without a sender explains one unknown text (B18)
    for message in messages:
        at = message.occurred_at
        if message.direction == "inbound":
            if at > e.moment or message.peer_is_contact is True:
                continue
            if any(token in profile.peers or token in profile.texters for token in message.peer):
                continue
            if not e.challenge.sends or not e.challenge.sends[0].sender:
                told = next((i for i in sorted(unexplained) if 0 <= at - sent[i] <= 1000 * policy.windows.delivery_s), None)
                if told is not None and message.has_code is not False:
                    unexplained.discard(told)
                    continue
            strange_from.append((at, message.peer))
            if first_ring is not None and 0 <= first_ring - at <= STRANGER_TEXT_MS:
                before_call = True
        elif e.start <= at <= e.moment and message.peer_is_contact is not True:
            strange = is_stranger(message.peer, e, profile, policy)
            answered = any(set(peer) & set(message.peer) for _, peer in strange_from) if message.peer else bool(strange_from)
            if strange is not False and answered:
                texted_out = True
    f["stranger_text_before_call"] = before_call
    f["code_texted_out"] = texted_out

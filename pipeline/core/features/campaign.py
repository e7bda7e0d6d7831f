"""How many accounts has the caller, texter, device or address of this episode met within the hour? How many were sent codes? C5, X1 to X3.

Asked only while campaigns run, or a surge of codes. What explains the meeting for this account (its usual contact, the bank, the code's
own delivery, a known device) is left out here, whatever other accounts made of it.
"""

from pipeline.core.campaign import Known, met_around
from pipeline.core.episode import Episode
from pipeline.core.events import Ms
from pipeline.core.features.stranger import is_stranger
from pipeline.core.policy import Policy
from pipeline.core.profile import Profile, is_new
from pipeline.core.sighting import OF_FEW, address
from pipeline.core.surge import Surge, around


class Heard:
    """The campaigns and surges that a partition knows of, asked for one account.

    ``at``: when (ms) the last new thing was said of those found.
    """

    def __init__(self, table: dict[str, Known], surges: dict[Ms, Surge], account_id: str) -> None:
        self._table = table
        self._surges = surges
        self._account_id = account_id
        self.at: Ms = 0

    def met(self, entity: str, moment: Ms, policy: Policy) -> int | None:
        """How many accounts the entity met in the window up to ``moment``, this one among them; None when it is no campaign."""
        known = self._table.get(entity)
        if known is None:
            return None
        count = met_around(known.marks, moment, self._account_id, policy)
        if count < policy.campaigns.accounts:
            return None
        self.at = max(self.at, known.heard_at)
        return count

    def surge_z(self, start: Ms) -> float:
        """By how many spreads more accounts than usual were sent a code around ``start`` (ms); 0 where that is no surge."""
        found = around(self._surges, start)
        if found is None:
            return 0.0
        self.at = max(self.at, found.heard_at)
        return found.z


def campaign_features(f: dict[str, object], e: Episode, profile: Profile, policy: Policy, heard: Heard) -> None:
    first = e.start - 1000 * policy.campaigns.before_s
    _most(f, "same_caller_accounts", _callers(e, profile, policy, first), e.moment, policy, heard)
    _most(f, "same_sender_accounts", _senders(e, profile, first), e.moment, policy, heard)
    if f.get("new_device") is not True:
        return
    known_before = e.start - 1000 * policy.windows.known_after_s
    devices = {x.device_id for x in (e.entry, e.login) if x is not None and x.device_id is not None}
    new = {f"device:{device}" for device in devices if is_new(profile.devices, device, known_before) is True}
    _most(f, "same_device_accounts", new, e.moment, policy, heard)
    login = e.login
    if f.get("new_network") is True and login is not None and login.ip is not None and login.asn_kind in OF_FEW:
        _most(f, "same_network_accounts", {f"network:{address(login.ip)}"}, e.moment, policy, heard)


def _most(f: dict[str, object], name: str, entities: set[str], moment: Ms, policy: Policy, heard: Heard) -> None:
    counts = [count for entity in entities if (count := heard.met(entity, moment, policy)) is not None]
    if counts:
        f[name] = max(counts)


def _callers(e: Episode, profile: Profile, policy: Policy, first: Ms) -> set[str]:
    """Strangers who rang around the code, answered or not: most bot calls fail, and each names its caller."""
    return {
        f"caller:{token}"
        for call in e.calls
        if call.direction == "inbound" and call.peer and not call.delivery and call.is_contact is not True and call.is_bank is not True
        if first <= call.started <= e.moment and is_stranger(call.peer, e, profile, policy) is not False
        for token in call.peer
    }


def _senders(e: Episode, profile: Profile, first: Ms) -> set[str]:
    """Those who texted around the code and never had before, the code's own senders left out."""
    own = set(profile.senders).union(*(s.sender for s in e.challenge.sends))
    return {
        f"sender:{token}"
        for message in e.messages
        if message.direction == "inbound" and message.peer_is_contact is not True and message.has_code is not True
        if first <= message.occurred_at <= e.moment and not own & set(message.peer)
        if not any(token in profile.peers or token in profile.texters for token in message.peer)
        for token in message.peer
    }

"""Has the account had to do with this number before? Asked of callers and of those who text."""

from pipeline.core.episode import Episode
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS, Profile


def is_stranger(peer: tuple[str, ...], episode: Episode, profile: Profile, policy: Policy) -> bool | None:
    """Whether the number was not seen for 90 days, or first seen within three.

    None when it is not known, or when nothing under its key is (key rotation).
    """
    if not peer:
        return None
    since = episode.start - DAY_MS * policy.windows.peer_known_days
    known_by = episode.start - DAY_MS * policy.windows.peer_known_after_days
    for token in peer:
        seen = profile.peers.get(token)
        if seen is not None and seen.last >= since and seen.first <= known_by:
            return False
    keys = {token.partition(":")[0] for token in peer}
    if not any(token.partition(":")[0] in keys for token in profile.peers):
        # nothing under this key: a young profile of a line that is observed knows no stranger; a rotated key knows nobody
        return None if profile.peers or profile.telephony_at is None else True
    return True

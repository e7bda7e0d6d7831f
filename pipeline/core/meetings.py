"""Which open challenges would want to hear of a caller, sender, device or address? An index in memory, made anew from state.

It may name more accounts than have an open challenge, never fewer; whoever asks looks at the account.
"""

from pipeline.core.events import Ms
from pipeline.core.policy import Policy

_LOOK_EVERY_MS = 60_000  # of the partition's time


class Meetings:
    """The accounts that met an entity while a code was open, until nothing of that time can be open any more."""

    def __init__(self) -> None:
        self._met: dict[str, dict[str, Ms]] = {}
        self._looked_at: Ms = 0

    def add(self, entity: str, account_id: str, at: Ms) -> None:
        """Note that an account met an entity; ``at`` (ms): when that was known, or later."""
        self._met.setdefault(entity, {})[account_id] = at

    def of(self, entity: str) -> list[str]:
        """The accounts that met an entity, in order."""
        return sorted(self._met.get(entity, ()))

    def end(self, entity: str, account_id: str) -> None:
        """The account has no open challenge any more that met the entity."""
        met = self._met.get(entity, {})
        met.pop(account_id, None)
        if not met:
            self._met.pop(entity, None)

    def forget(self, now: Ms, policy: Policy) -> None:
        """Forget, now and then, what was known so long before ``now`` (ms) that its challenges are settled."""
        if now - self._looked_at < _LOOK_EVERY_MS:
            return
        self._looked_at = now
        until = now - policy.retain_ms
        for entity, met in list(self._met.items()):
            kept = {account: at for account, at in met.items() if at >= until}
            if not kept:
                del self._met[entity]
            elif len(kept) < len(met):
                self._met[entity] = kept

    def __len__(self) -> int:
        return sum(len(met) for met in self._met.values())

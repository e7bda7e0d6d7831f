"""Is this one of the few? A share of all names, chosen by their hash: the same ones in every process, every run and every replay."""

from hashlib import blake2b

from pipeline.core.episode import named
from pipeline.core.policy import Policy


def taken(name: str, share: float) -> bool:
    """Whether ``name`` belongs to a ``share`` (0 to 1) of all names.

    >>> sum(taken(f"d_{n}", 0.25) for n in range(10_000))
    2489
    """
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") < int(share * (1 << 64))


def is_control(account_id: str, otp_id: str, policy: Policy) -> bool:
    """Whether an alert on this challenge is one of the few by which the detector is judged by those it has not steered."""
    return taken(named("c_", account_id, otp_id), policy.learning.control)

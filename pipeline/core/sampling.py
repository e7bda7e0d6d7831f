"""Is this one of the few? A share of all names, chosen by their hash: the same ones in every process, every run and every replay."""

from hashlib import blake2b


def taken(name: str, share: float) -> bool:
    """Whether ``name`` belongs to a ``share`` (0 to 1) of all names.

    >>> sum(taken(f"d_{n}", 0.25) for n in range(10_000))
    2489
    """
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") < int(share * (1 << 64))

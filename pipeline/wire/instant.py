"""How is an instant written for others? RFC 3339 in UTC, as every output of wire writes it."""

from datetime import UTC, datetime, timedelta

from pipeline.core.events import Ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999  # years 1 to 9999: all that RFC 3339 can say (ms)


def rfc3339(instant: Ms) -> str:
    """Write an instant (ms since the epoch) in UTC, with three decimals unless they are zero. Raises ValueError outside years 1 to 9999.

    >>> rfc3339(1795342543120), rfc3339(1795342573000)
    ('2026-11-22T10:15:43.120Z', '2026-11-22T10:16:13Z')
    """
    if not _FIRST <= instant <= _LAST:
        raise ValueError("an instant outside the years 1 to 9999")
    seconds, ms = divmod(instant, 1000)
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
    return f"{text}.{ms:03d}Z" if ms else text + "Z"

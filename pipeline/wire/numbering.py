"""What does a phone number say about itself? One spelling for each number, its country calling code and its region."""

import contextlib
import re
import unicodedata
from functools import lru_cache

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

_CACHED = 1 << 16  # numbers remembered; speed only
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_DECORATION = str.maketrans("", "", " -.()[]\t\u2010\u2011\u2012\u2013\u2014\u2212")
_NUMBER = re.compile(r"\+?[0-9*#]+")


def normal_number(text: str) -> str | None:
    """Strip a phone number of spaces, dashes, dots and brackets; None when it is none (a sender name).

    >>> normal_number("+44 (7700) 900-123"), normal_number("MyBank")
    ('+447700900123', None)
    """
    if text.isascii() and text[1:].isdigit() and text[0] in "+0123456789":
        return text
    bare = visible(text).translate(_DECORATION)
    return bare if _NUMBER.fullmatch(bare) else None


def visible(text: str) -> str:
    """Fold compatible forms into one and drop format characters: copied numbers carry direction marks, forged names zero-width ones."""
    folded = unicodedata.normalize("NFKC", text)
    return folded if folded.isascii() else "".join(c for c in folded if unicodedata.category(c) != "Cf")


@lru_cache(maxsize=_CACHED)
def calling_code(number: str) -> int | None:
    """Return the country calling code of a number in E.164, None when it has none that is assigned.

    >>> calling_code("+447700900123"), calling_code("07700900123")
    (44, None)
    """
    normal = normal_number(number)
    if normal is None or not _E164.fullmatch(normal):
        return None
    # Calling codes are one to three digits and none is the beginning of another (ITU-T E.164, section 6.2.1).
    for end in (2, 3, 4):
        code = int(normal[1:end])
        if code in COUNTRY_CODE_TO_REGION_CODE:
            return code
    return None


def abroad(phone: str, peer: str) -> bool | None:
    """Say whether the other end has another calling code than the line; None when either has none."""
    theirs = calling_code(peer)
    ours = calling_code(phone)
    return None if theirs is None or ours is None else theirs != ours


@lru_cache(maxsize=_CACHED)
def region(phone: str) -> str | None:
    """Return the region (ISO 3166 alpha-2) that a number in E.164 belongs to, None when it belongs to none.

    A number that the numbering plan cannot place belongs to the main region of its calling code.

    >>> region("+447700900123"), region("+33612345678"), region("+80012345678")
    ('GB', 'FR', None)
    """
    code = calling_code(phone)
    if code is None:
        return None
    regions = COUNTRY_CODE_TO_REGION_CODE[code]
    found: str | None = regions[0]  # the main region comes first
    if len(regions) > 1:
        with contextlib.suppress(phonenumbers.NumberParseException):  # too short to be a number
            found = phonenumbers.region_code_for_number(phonenumbers.parse(phone)) or found
    return None if found == "001" else found  # "001": the world, such as free numbers

"""Who is behind a number, without saying it? Keyed pseudonyms of phone lines, peers, addresses and devices, made at ingest.

A pseudonym is ``k1:`` and 22 characters: the name of the key, then base64url of the first 16 bytes of HMAC-SHA-256. Whoever holds the key
can enumerate all numbers, so the key never shows: not in a repr, not in an exception, not in an output.
"""

import base64
import hmac
import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Literal, TypeVar

from pipeline.wire.numbering import normal_number, visible

T = TypeVar("T")
Token = str
Kind = Literal["ip", "device"]

LEAST_KEY_BYTES = 32  # as long as the digest: a shorter key is the weakest part of HMAC-SHA-256 (RFC 2104, section 3)
DEMO_NAME = "k0"  # the name of the well-known key; no key file may claim it
_TOKEN_BYTES = 16  # 128 bits: no two of 10^12 numbers share a token in practice
_CACHED = 1 << 16  # values remembered of each kind, some 20 MB in all; speed only

_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")
_BARE = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_HEX = re.compile(r"[0-9A-Fa-f]+")


def normal_name(text: str) -> str:
    """Write a sender name so that case, width, invisible characters and runs of blanks do not tell names apart.

    >>> normal_name("  My  BANK ")
    'my bank'
    """
    return " ".join(visible(text).casefold().split())


class Pseudonyms:
    """Turn numbers, names, addresses and devices into tokens under one routing key and one or two peer keys."""

    def __init__(self, keys: dict[str, bytes], routing: str, peers: tuple[str, ...]) -> None:
        """``keys``: secrets by name; ``routing``: the key of lines, fixed for a deployment; ``peers``: newest first, two while keys rotate.

        Raises ValueError, without the secret, for a key that is short or unknown.
        """
        for name, key in keys.items():
            if not _NAME.fullmatch(name):
                raise ValueError("a key name is a small letter and up to 15 small letters, digits or underscores")
            if len(key) < LEAST_KEY_BYTES:
                raise ValueError(f"key {name} has {len(key)} bytes, at least {LEAST_KEY_BYTES} are needed")
        if not 1 <= len(peers) <= 2 or len(set(peers)) != len(peers):
            raise ValueError("peers must name one key, or two while keys rotate")
        for name in (routing, *peers):
            if name not in keys:
                raise ValueError("routing and peers must name keys that are given")
        self.routing = routing
        self.peers = peers
        self._line = _cached(_token_maker(routing, keys[routing], b"line:"))
        makers = [_token_maker(name, keys[name], b"peer:") for name in peers]
        self._peer = _cached(lambda text: _peer_tokens(text, makers))
        newest = keys[peers[0]]
        self._opaque: dict[Kind, Callable[[str], Token]] = {
            "ip": _cached(_token_maker(peers[0], newest, b"ip:")),
            "device": _cached(_token_maker(peers[0], newest, b"device:")),
        }

    @classmethod
    def from_text(cls, text: str) -> "Pseudonyms":
        """Read a key file: lines ``name = secret`` in hex or base64, ``routing = name`` and ``peers = new, old``; or a bare secret alone.

        ``#`` starts a comment line. ``routing`` may be left out when there is one key, ``peers`` when it is the routing key. A bare secret
        is ``k1``. Raises ValueError naming the line and the rule, never the content.
        """
        lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
        lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
        if len(lines) == 1 and _BARE.fullmatch(lines[0][1]):
            return cls({"k1": _secret(lines[0][1], "k1", lines[0][0])}, "k1", ("k1",))
        keys: dict[str, bytes] = {}
        chosen: dict[str, str] = {}
        for n, line in lines:
            name, equals, value = (part.strip() for part in line.partition("="))
            if not equals or not value or not _NAME.fullmatch(name):
                raise ValueError(f"key file, line {n}: expected name = value")
            if name in keys or name in chosen:
                raise ValueError(f"key file, line {n}: this name was given before")
            if name in ("routing", "peers"):
                chosen[name] = value
            elif name == DEMO_NAME:
                raise ValueError(f"key file, line {n}: {DEMO_NAME} is the name of the demo's key, which everybody knows")
            else:
                keys[name] = _secret(value, name, n)
        if not keys:
            raise ValueError("key file: no key in it")
        if "routing" not in chosen and len(keys) > 1:
            raise ValueError("key file: with several keys, routing must name one")
        routing = chosen.get("routing", next(iter(keys)))
        peers = tuple(name.strip() for name in chosen.get("peers", routing).split(","))
        return cls(keys, routing, peers)

    @classmethod
    def for_demo(cls, seed: int = 0) -> "Pseudonyms":
        """Make tokens under a key that everybody knows: for the demo, the simulation and tests only. They protect nobody."""
        return cls({DEMO_NAME: sha256(b"offhook demo key, known to everybody %d" % seed).digest()}, DEMO_NAME, (DEMO_NAME,))

    def __repr__(self) -> str:
        return f"Pseudonyms(routing={self.routing}, peers={','.join(self.peers)})"

    def __reduce__(self) -> str:
        raise TypeError("Pseudonyms hold secrets and are never written down")

    def line(self, phone: str) -> Token:
        """Name a customer's phone line (E.164): the routing key of ``lines``. Not comparable with peers."""
        return self._line(phone)

    def peer(self, number_or_name: str) -> tuple[Token, ...]:
        """Name the other end of a call or message, newest key first; a code's sender and a caller of one number are equal.

        Empty for a text of blanks only.
        """
        return self._peer(number_or_name)

    def opaque(self, kind: Kind, value: str) -> Token:
        """Name an address or a device under the newest peer key, when the policy does not keep them as they are."""
        return self._opaque[kind](value)


def _cached(make: Callable[[str], T]) -> Callable[[str], T]:
    return lru_cache(maxsize=_CACHED)(make)


def _token_maker(name: str, key: bytes, prefix: bytes) -> Callable[[str], Token]:
    def token(text: str) -> Token:
        digest = hmac.digest(key, prefix + text.encode(errors="surrogatepass"), "sha256")
        return f"{name}:{base64.urlsafe_b64encode(digest[:_TOKEN_BYTES])[:22].decode()}"

    return token


def _peer_tokens(text: str, makers: list[Callable[[str], Token]]) -> tuple[Token, ...]:
    normal = normal_number(text) or normal_name(text)
    return tuple(make(normal) for make in makers) if normal else ()


def _secret(text: str, name: str, line: int) -> bytes:
    """Decode hex (what has hex digits only is hex) or base64, plain or urlsafe, padded or not."""
    try:
        if _HEX.fullmatch(text):
            key = bytes.fromhex(text)
        else:
            plain = text.rstrip("=").replace("-", "+").replace("_", "/")
            key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ValueError(f"key file, line {line}: key {name} is neither hex nor base64") from None
    if len(key) < LEAST_KEY_BYTES:
        raise ValueError(f"key file, line {line}: key {name} has {len(key)} bytes, at least {LEAST_KEY_BYTES} are needed")
    return key

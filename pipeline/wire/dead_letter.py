"""What becomes of a record that cannot be read? A dead letter: where it stands and why in the headers, and the original as far as allowed.

``reference`` (the default) keeps nothing of the original, ``sealed`` encrypts it to a public key of the operator, ``plain`` keeps it as
it is: it may hold a phone number or worse.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Literal, NamedTuple, cast, get_args

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from pipeline.core.errors import REFUSALS, Refusal
from pipeline.core.events import Ms
from pipeline.wire.codec import OutRecord

Form = Literal["reference", "sealed", "plain"]
Headers = tuple[tuple[str, bytes], ...]

VERSION = 1  # of this form; raised when a reader must be told
DETAIL_CHARACTERS = 200
LARGEST_BYTES = 900_000  # a broker takes 1 MiB by default (message.max.bytes 1048588), batch and headers included
_PREFIX = "offhook.error."
_NAMES = ("topic", "partition", "offset", "timestamp", "reason", "detail", "length", "sha256", "version", "form")


class KeyPair(NamedTuple):
    """An X25519 key pair, 32 bytes each. The private one stays with the operator."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


class _Original(msgspec.Struct, frozen=True, array_like=True):
    key: bytes | None
    value: bytes | None
    headers: Headers


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as read back. ``length`` and ``sha256`` are those of the original value, None for a null one.

    ``key``, ``value`` and ``headers`` are the original's, None and empty where they were not kept or are still ``sealed``.
    """

    topic: str
    partition: int
    offset: int
    timestamp: Ms
    reason: Refusal
    detail: str
    length: int | None
    sha256: str | None
    version: int
    form: Form
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    sealed: bytes | None = None


class DeadLetters:
    """Write dead letters in one form."""

    def __init__(self, mode: Form, public_key: bytes | None = None, max_bytes: int = LARGEST_BYTES) -> None:
        """``public_key``: 32 bytes (X25519), for ``sealed``. Originals longer than ``max_bytes`` in all are kept as a reference only.

        Raises ValueError for an unknown mode, a missing key or one that is none.
        """
        if mode not in get_args(Form):
            raise ValueError("the mode of dead letters is reference, sealed or plain")
        if mode == "sealed" and (public_key is None or len(public_key) != PublicKey.SIZE):
            raise ValueError(f"sealed dead letters need a public key of {PublicKey.SIZE} bytes")
        self._form = mode
        self._max_bytes = max_bytes
        self._box = SealedBox(PublicKey(public_key)) if mode == "sealed" else None

    def record(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: Ms,
        reason: Refusal,
        detail: str,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> OutRecord:
        """Write the dead letter of one record. ``detail`` must hold no payload; it is cut to 200 characters.

        Two calls differ in ``sealed`` form only: each seals with a key of its own.
        """
        theirs = tuple((name, text or b"") for name, text in headers)
        size = len(key or b"") + len(value or b"") + sum(len(name.encode()) + len(text) for name, text in theirs)
        form: Form = self._form if size <= self._max_bytes else "reference"
        fields = {
            "topic": topic,
            "partition": str(partition),
            "offset": str(offset),
            "timestamp": str(timestamp),
            "reason": reason,
            "detail": _one_line(detail),
            "length": "" if value is None else str(len(value)),
            "sha256": "" if value is None else sha256(value).hexdigest(),
            "version": str(VERSION),
            "form": form,
        }
        ours = tuple((_PREFIX + name, fields[name].encode(errors="replace")) for name in _NAMES)
        match form:
            case "reference":
                return OutRecord("dead-letters", None, None, ours)
            case "plain":
                return OutRecord("dead-letters", key, value, ours + theirs)
            case "sealed":
                assert self._box is not None
                original = msgspec.msgpack.encode(_Original(key, value, theirs))
                return OutRecord("dead-letters", None, self._box.encrypt(original), ours)


def parse(headers: Iterable[tuple[str, bytes]], key: bytes | None, value: bytes | None) -> DeadLetter:
    """Read a record of ``dead-letters`` back. Raises ValueError for one that is none, or of a newer version."""
    given = tuple((name, bytes(text)) for name, text in headers)
    ours, others = given[: len(_NAMES)], given[len(_NAMES) :]
    if tuple(name for name, _ in ours) != tuple(_PREFIX + name for name in _NAMES):
        raise ValueError("not a dead letter: its headers are not those of this version")
    fields = dict(zip(_NAMES, (text.decode() for _, text in ours), strict=True))
    if int(fields["version"]) > VERSION:
        raise ValueError(f"a dead letter of version {int(fields['version'])}; this code reads up to {VERSION}")
    if fields["reason"] not in REFUSALS or fields["form"] not in get_args(Form):
        raise ValueError("not a dead letter: unknown reason or form")
    form = cast(Form, fields["form"])
    return DeadLetter(
        topic=fields["topic"],
        partition=int(fields["partition"]),
        offset=int(fields["offset"]),
        timestamp=int(fields["timestamp"]),
        reason=cast(Refusal, fields["reason"]),
        detail=fields["detail"],
        length=int(fields["length"]) if fields["length"] else None,
        sha256=fields["sha256"] or None,
        version=int(fields["version"]),
        form=form,
        key=key if form == "plain" else None,
        value=value if form == "plain" else None,
        headers=others if form == "plain" else (),
        sealed=value if form == "sealed" else None,
    )


def unseal(letter: DeadLetter, private_key: bytes) -> DeadLetter:
    """Open a sealed dead letter with the operator's private key (32 bytes). Raises ValueError when it is not sealed to it."""
    if letter.sealed is None:
        raise ValueError("this dead letter is not sealed")
    if len(private_key) != PrivateKey.SIZE:
        raise ValueError(f"a private key has {PrivateKey.SIZE} bytes")
    try:
        opened = SealedBox(PrivateKey(private_key)).decrypt(letter.sealed)
        original = msgspec.msgpack.decode(opened, type=_Original)
    except (CryptoError, msgspec.DecodeError):
        raise ValueError("this dead letter was sealed to another key, or is damaged") from None
    return msgspec.structs.replace(letter, key=original.key, value=original.value, headers=original.headers)


def new_key_pair() -> KeyPair:
    """Make a key pair for sealed dead letters."""
    private = PrivateKey.generate()
    return KeyPair(bytes(private), bytes(private.public_key))


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= DETAIL_CHARACTERS else printable[: DETAIL_CHARACTERS - 1] + "…"

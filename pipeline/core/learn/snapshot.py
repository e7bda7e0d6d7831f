"""How does a model travel, and what is refused on arrival? A learner <-> explicit numbers in JSON, versioned, hashed, signed, bounded.

A snapshot holds numbers and declared names, no code and no class names: what it may contain is the type ``ModelState``, and whatever
does not fit is refused before anything is built from it. The whole learner is in it, so that learning goes on after a restore exactly as
it would have; a snapshot made with ``to_learn=False`` leaves out what only learning needs, and can be scored with but not learned from.

The bytes are one JSON object: ``version``, ``content_hash`` (SHA-256 of the content), ``signature`` (Ed25519 over the version and the
content), ``content``. Whoever scores holds only the public key, and cannot make a snapshot.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Annotated, Literal, Protocol, get_args

import msgspec
from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pipeline.core.learn.blend_scorer import BlendScorer
from pipeline.core.learn.forest_scorer import ForestScorer
from pipeline.core.learn.linear_scorer import LinearScorer
from pipeline.core.learn.prediction import Learner, Scorer
from pipeline.core.learn.schema import Schema
from pipeline.core.learn.states import BlendState, ForestState, LinearState

VERSION = 2  # 2: a linear learner remembers its gradients, and that of a blend learns what people's weights leave open
OLDEST = 1  # scores as it did, and nobody learns on from it
MOST_BYTES = 8 << 20  # the default forest, full and with as many trees in the background: 20 * 127 leaves * 10 columns * 200 bytes = 5 MB

ModelState = LinearState | ForestState | BlendState
Refusal = Literal[
    "too_large",  # above the size bound; not even parsed
    "malformed",  # not JSON, or not what a snapshot of this version holds, or parts that do not fit each other
    "unknown_version",  # older than any version we can read
    "newer",  # written by a newer version of OffHook
    "tampered",  # the content is not what its hash says
    "wrong_signature",  # not signed with the key we trust
    "not_finite",  # a number is NaN or infinite
    "other_features",  # made for features other than those asked for
    "scoring_only",  # made for scoring; nothing can be learned from there on
]
REFUSALS: tuple[str, ...] = get_args(Refusal)


class SnapshotRefused(Exception):
    """A snapshot that must not be used; ``reason`` says why, as a metric label."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Refusal = reason
        self.detail = detail


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is signed. ``examples``: how many were learned; ``through``: the offset in ``examples`` after the last of them.

    ``weights``: of the terms and rules whose log-odds the model takes in, none where it takes none; ``at``: the log time of the last
    example (ms); ``made``: how it was made, for people.
    """

    features: str  # Schema.id
    to_learn: bool
    examples: Annotated[int, Meta(ge=0)]
    through: Annotated[int, Meta(ge=0)]
    at: Annotated[int, Meta(ge=0)] = 0
    made: Annotated[str, Meta(max_length=2000)] = ""
    weights: dict[str, float] = {}
    model: ModelState

    @property
    def reached(self) -> tuple[int, int, int]:
        """How far it has learned: of those that may be learned on from, a learner takes the greatest."""
        return self.through, self.examples, self.at


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A checked snapshot: its content, its id, ``m_`` and ten characters of the content's hash, and the version that wrote it."""

    id: str
    version: int
    content: Content

    def scorer(self) -> Scorer:
        """Build the scorer. Raises SnapshotRefused ``malformed`` when the parts do not fit each other."""
        with fitting():
            match self.content.model:
                case LinearState() as state:
                    return LinearScorer(state.schema, state.spreads, state.logistic)
                case ForestState() as state:
                    return ForestScorer(state)
                case BlendState() as state:
                    return BlendScorer(state)


@contextmanager
def fitting() -> Iterator[None]:
    """Build something from a state. Raises SnapshotRefused ``malformed`` when its parts do not fit each other."""
    try:
        yield
    except (ValueError, IndexError, StopIteration) as e:
        raise SnapshotRefused("malformed", str(e)) from None


class WritableLearner(Learner, Protocol):
    """A learner that can be written down."""

    def state(self, to_learn: bool = True) -> ModelState:
        """All of it in numbers."""


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: int
    content_hash: str
    signature: str
    content: msgspec.Raw


def write_snapshot(
    learner: WritableLearner,
    key: SigningKey,
    *,
    examples: int,
    through: int,
    to_learn: bool = True,
    most_bytes: int = MOST_BYTES,
    at: int = 0,
    made: str = "",
    weights: Mapping[str, float] | None = None,
) -> bytes:
    """Write a learner down and sign it. Raises SnapshotRefused when it is too large or has numbers that are not finite."""
    model = learner.state(to_learn)
    finite(msgspec.to_builtins(model))
    finite(weights := dict(weights or {}))
    content = Content(
        features=learner.schema.id, to_learn=to_learn, examples=examples, through=through, at=at, made=made, weights=weights, model=model
    )
    body = msgspec.json.encode(content)
    envelope = Envelope(
        version=VERSION,
        content_hash=hashlib.sha256(body).hexdigest(),
        signature=key.sign(signed_part(VERSION, body)).signature.hex(),
        content=msgspec.Raw(body),
    )
    data = msgspec.json.encode(envelope)
    if len(data) > most_bytes:
        raise SnapshotRefused("too_large", f"{len(data)} bytes, at most {most_bytes}")
    return data


def read_snapshot(data: bytes, key: VerifyKey, *, schema: Schema | None = None, most_bytes: int = MOST_BYTES) -> Snapshot:
    """Check and read a snapshot; with ``schema``, only one that knows exactly these features. Raises SnapshotRefused."""
    if len(data) > most_bytes:
        raise SnapshotRefused("too_large", f"{len(data)} bytes, at most {most_bytes}")
    try:
        version = msgspec.json.decode(data, type=Version).version
        if version > VERSION:
            raise SnapshotRefused("newer", f"version {version}; this is version {VERSION}")
        if version < OLDEST:
            raise SnapshotRefused("unknown_version", f"version {version}; this code reads {OLDEST} to {VERSION}")
        envelope = msgspec.json.decode(data, type=Envelope)
        body = bytes(envelope.content)
        if hashlib.sha256(body).hexdigest() != envelope.content_hash:
            raise SnapshotRefused("tampered", "the content is not what its hash says")
        key.verify(signed_part(version, body), bytes.fromhex(envelope.signature))
        content = msgspec.json.decode(body, type=Content)
    except BadSignatureError:
        raise SnapshotRefused("wrong_signature", "not signed with the trusted key") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as e:
        raise SnapshotRefused("malformed", str(e)) from None
    finite(msgspec.to_builtins(content))
    if content.features != content.model.schema.id:
        raise SnapshotRefused("malformed", "the features are not those of the schema")
    if schema is not None and schema.id != content.features:
        raise SnapshotRefused("other_features", f"{content.features}, not {schema.id}")
    return Snapshot(id="m_" + envelope.content_hash[:10], version=version, content=content)


class Version(msgspec.Struct, frozen=True):
    """The one field that every version has."""

    version: int


def signed_part(version: int, body: bytes) -> bytes:
    return b"offhook model snapshot %d\n" % version + body


def finite(value: object) -> None:
    """Raises SnapshotRefused ``not_finite`` when there is a NaN or an infinity anywhere."""
    waiting = [value]
    while waiting:
        v = waiting.pop()
        if isinstance(v, float):
            if not isfinite(v):
                raise SnapshotRefused("not_finite", "a number is NaN or infinite")
        elif isinstance(v, dict):
            waiting.extend(v.values())
        elif isinstance(v, list | tuple):
            waiting.extend(v)

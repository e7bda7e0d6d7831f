"""How do events and outcomes look as bytes? The canonical logs in and out, and what detect says as records for others.

Both drivers use it, so one value has one encoding: events leave out fields at their default; outcomes have sorted keys and numbers
rounded to six decimals.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar

import msgspec
import orjson

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import AnyEvent, LineEvent, Ms
from pipeline.core.outcome import (
    Decision,
    Example,
    FeatureValue,
    Finding,
    Hold,
    HoldEnded,
    Late,
    Level,
    Outcome,
    Replaced,
    Sighting,
    Stage,
)
from pipeline.wire import cloudevents, ocsf
from pipeline.wire.instant import rfc3339
from pipeline.wire.refusal import check_utf8, refusal

DECIMALS = 6  # of probabilities, contributions and features: finer differences mean nothing
MOST_INTEGER = (1 << 63) - 1  # of a feature: what others read as a number, too
AS_THEY_ARE = frozenset((str, int, bool, type(None)))  # types in which there is nothing to round: most of what a record holds
Mode = Literal["live", "replay"]
T = TypeVar("T")


class OutRecord(NamedTuple):
    """A record to write: topic without prefix; a None value is a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class DecisionHead(msgspec.Struct, frozen=True, gc=False):
    """What a record of ``decisions`` says of its challenge, its features not decoded; the fields are those of ``Decision``."""

    account_id: str
    otp_id: str
    time: Ms
    stage: Stage
    level: Level
    probability: float
    features: msgspec.Raw


_event_encoder = msgspec.json.Encoder()
_event_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_line_decoder: msgspec.json.Decoder[LineEvent] = msgspec.json.Decoder(LineEvent)
_sighting_decoder: msgspec.json.Decoder[Sighting] = msgspec.json.Decoder(Sighting)
_example_decoder: msgspec.json.Decoder[Example] = msgspec.json.Decoder(Example)
_head_decoder: msgspec.json.Decoder[DecisionHead] = msgspec.json.Decoder(DecisionHead)
_features_decoder: msgspec.json.Decoder[dict[str, FeatureValue]] = msgspec.json.Decoder(dict[str, FeatureValue])
_HEAD_FIELDS = frozenset(DecisionHead.__struct_fields__)
_EXAMPLE_FIELDS = frozenset(Example.__struct_fields__) | frozenset(Replaced.__struct_fields__)


def _field_names(union: object) -> frozenset[str]:
    info = msgspec.inspect.type_info(union)
    assert isinstance(info, msgspec.inspect.UnionType)
    structs = [t for t in info.types if isinstance(t, msgspec.inspect.StructType)]
    return frozenset(field.encode_name for t in structs for field in t.fields) | {"type"}


_FIELDS = _field_names(AnyEvent | LineEvent) | frozenset(Sighting.__struct_fields__)


def encode_event(event: AnyEvent | LineEvent) -> bytes:
    """Encode a record of ``events`` or ``lines``; the same event always gives the same bytes."""
    return _event_encoder.encode(event)


def _decoded(decoder: "msgspec.json.Decoder[T]", value: bytes, fields: frozenset[str]) -> T:
    check_utf8(value)
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as e:
        raise refusal(e, fields) from None


def decode_event(value: bytes) -> AnyEvent:
    """Decode a record of ``events``. Raises InvalidEvent."""
    return _decoded(_event_decoder, value, _FIELDS)


def decode_line_event(value: bytes) -> LineEvent:
    """Decode a record of ``lines``. Raises InvalidEvent."""
    return _decoded(_line_decoder, value, _FIELDS)


def encode_example(example: Example) -> bytes:
    """Encode a record of ``examples``; the same example always gives the same bytes."""
    return _json(rounded(msgspec.to_builtins(example)))


def decode_example(value: bytes) -> Example:
    """Decode a record of ``examples``. Raises InvalidEvent."""
    example = _decoded(_example_decoder, value, _EXAMPLE_FIELDS)
    _within_bounds(example.features)
    return example


def decode_decision_head(value: bytes) -> DecisionHead:
    """Decode what is needed of every record of ``decisions``, in a third of the time it takes with the features. Raises InvalidEvent."""
    return _decoded(_head_decoder, value, _HEAD_FIELDS)


def decode_features(head: DecisionHead) -> dict[str, FeatureValue]:
    """Decode the features of a decision. Raises InvalidEvent."""
    try:
        features = _features_decoder.decode(head.features)
    except msgspec.ValidationError:
        raise InvalidEvent("invalid_field", "features has another type than the contract says") from None
    _within_bounds(features)
    return features


def _within_bounds(features: Mapping[str, FeatureValue]) -> None:
    """Refuse an integer that a decoder takes, however long it is, and arithmetic does not: no float holds it. Raises InvalidEvent."""
    for value in features.values():
        if type(value) is int and not -MOST_INTEGER <= value <= MOST_INTEGER:
            raise InvalidEvent("invalid_field", "features is outside the range that the contract allows")


def encode_sighting(sighting: Sighting) -> bytes:
    """Encode a record of ``sightings``."""
    return _event_encoder.encode(sighting)


def decode_sighting(value: bytes) -> Sighting:
    """Decode a record of ``sightings``. Raises InvalidEvent."""
    return _decoded(_sighting_decoder, value, _FIELDS)


class OutcomeEncoder:
    """Turn outcomes into records of ``alerts``, ``decisions``, ``holds``, ``examples`` and ``sightings``."""

    def __init__(self, mode: Mode, source: str = "/offhook") -> None:
        """``source``: the URI reference of this deployment, for CloudEvents."""
        self._mode = mode
        self._source = source

    def encode(self, outcome: Outcome) -> OutRecord | None:
        """Encode one outcome; None for Late, which the driver writes as a dead letter.

        Raises ValueError for a number that is not finite: JSON has none.
        """
        match outcome:
            case Decision():
                return OutRecord("decisions", outcome.account_id.encode(), _json(self._decision(outcome)), ())
            case Finding():
                value = _json(rounded(ocsf.alert(outcome, self._mode)))
                return OutRecord("alerts", outcome.account_id.encode(), value, cloudevents.headers(outcome, self._source))
            case Hold():
                return OutRecord("holds", hold_key(outcome.account_id, outcome.otp_id), _json(_hold(outcome)), ())
            case HoldEnded():
                return OutRecord("holds", hold_key(outcome.account_id, outcome.otp_id), None, ())
            case Example():
                return OutRecord("examples", outcome.example_id.encode(), encode_example(outcome), ())
            case Sighting():
                return OutRecord("sightings", outcome.entity.encode(), encode_sighting(outcome), ())
            case Late():
                return None

    def _decision(self, d: Decision) -> dict[str, object]:
        return {
            "decision_id": d.decision_id,
            "account_id": d.account_id,
            "otp_id": d.otp_id,
            "incident_id": d.incident_id,
            "finding_uid": d.finding_uid,
            "time": d.time,
            "stage": d.stage,
            "level": d.level,
            "probability": rounded(d.probability),
            "threshold": rounded(d.threshold),
            "features": rounded(d.features),
            "reasons": [{"name": r.name, "contribution": rounded(r.contribution), "text": r.text} for r in d.reasons],
            "event_ids": d.event_ids,
            "policy_id": d.policy_id,
            "model_id": d.model_id,
            "version": d.version,
            "mode": self._mode,
        } | _where_there_are_any(d)


def _where_there_are_any(d: Decision) -> dict[str, object]:
    """What most decisions have not."""
    found: dict[str, object] = {"control": True} if d.control else {}
    if d.challengers:
        found["challengers"] = [{"model_id": c.model_id, "probability": rounded(c.probability)} for c in d.challengers]
    return found


def hold_key(account_id: str, otp_id: str) -> bytes:
    """Write the key of a challenge in ``holds``: neither part can contain the bar."""
    return f"{account_id}|{otp_id}".encode()


def rounded(value: object) -> object:
    """Round every float in a JSON-like value to six decimals, with no negative zero. Raises ValueError for one that is not finite.

    >>> rounded({"a": 0.1 + 0.2, "b": [-1e-9, 1, True]})
    {'a': 0.3, 'b': [0.0, 1, True]}
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number that is not finite has no place in a record")
        return round(value, DECIMALS) + 0.0
    if isinstance(value, dict):
        return {key: part if type(part) in AS_THEY_ARE else rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [part if type(part) in AS_THEY_ARE else rounded(part) for part in value]
    return value


def _hold(h: Hold) -> dict[str, object]:
    return {
        "account_id": h.account_id,
        "otp_id": h.otp_id,
        "session_id": h.session_id,
        "finding_uid": h.finding_uid,
        "probability": rounded(h.probability),
        "expires_at": rfc3339(h.expires_at),
        "reason": h.reason,
    }


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

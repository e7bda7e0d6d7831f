"""Does a snapshot change nothing, and is everything else refused? The laws of models that travel."""

from collections.abc import Callable
from functools import cache
from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from worlds import FRESH, SCHEMA, features, world

from pipeline.core.learn.blend import Blend
from pipeline.core.learn.forest import Forest
from pipeline.core.learn.linear import Linear
from pipeline.core.learn.restored import learner_of
from pipeline.core.learn.schema import FeatureValue, Field, Schema
from pipeline.core.learn.shelf import goes_on
from pipeline.core.learn.snapshot import (
    MOST_BYTES,
    REFUSALS,
    VERSION,
    Content,
    Snapshot,
    SnapshotRefused,
    read_snapshot,
    signed_part,
    write_snapshot,
)
from pipeline.core.learn.states import Branch
from pipeline.core.learn.student import Student
from pipeline.core.policy import Policy
from tests.examples import examples

KEY = SigningKey(bytes(range(32)))
TRUSTED = KEY.verify_key
KINDS = sorted(FRESH)
AnyLearner = Linear | Forest | Blend


def taught(learner: AnyLearner, seed: int, n: int) -> AnyLearner:
    for x, y in world(seed, n, prior=0.2):
        learner.learn(x, y, 1.5 if y else 3.0)
    return learner


@cache
def written(kind: str, to_learn: bool = True) -> bytes:
    return write_snapshot(taught(FRESH[kind](), 1, 900), KEY, examples=900, through=901, to_learn=to_learn)


def travelled(learner: AnyLearner) -> AnyLearner:
    return learner_of(read_snapshot(write_snapshot(learner, KEY, examples=0, through=0), TRUSTED))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 200), at=st.sets(st.integers(0, 200), max_size=3))
def test_a_snapshot_in_the_middle_changes_nothing(kind: str, seed: int, n: int, at: set[int]) -> None:
    straight, stopped = FRESH[kind](), FRESH[kind]()
    for i, (x, y) in enumerate(world(seed, n, prior=0.4)):
        if i in at:
            stopped = travelled(stopped)
        straight.learn(x, y, 2.0)
        stopped.learn(x, y, 2.0)
    assert msgspec.json.encode(stopped.state()) == msgspec.json.encode(straight.state())
    for x, _ in world(seed + 1, 20):
        assert stopped.scorer().predict(x) == straight.scorer().predict(x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_life_with_many_snapshots_is_the_same_life(kind: str) -> None:
    """Long enough for the trees to split, to be replaced, and for the anomaly windows to turn."""
    straight, stopped = FRESH[kind](), FRESH[kind]()
    for i, (x, y) in enumerate([*world(5, 700, prior=0.3), *world(6, 600, prior=0.3, flipped=True)]):
        if i % 150 == 77:
            stopped = travelled(stopped)
        straight.learn(x, y)
        stopped.learn(x, y)
    assert msgspec.json.encode(stopped.state()) == msgspec.json.encode(straight.state())
    if isinstance(straight, Forest):
        assert straight.replaced > 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(x=features())
def test_scores_are_the_same_bits_after_a_journey(kind: str, x: dict[str, FeatureValue]) -> None:
    here = scorer_here(kind).predict(x)
    for to_learn in (True, False):
        there = scorer_there(kind, to_learn).predict(x)
        assert there == here
        assert there.log_odds.hex() == here.log_odds.hex()


@cache
def scorer_here(kind: str) -> object:
    return taught(FRESH[kind](), 1, 900).scorer()


@cache
def scorer_there(kind: str, to_learn: bool) -> object:
    return read_snapshot(written(kind, to_learn), TRUSTED, schema=SCHEMA).scorer()


def test_a_scoring_snapshot_is_smaller_and_teaches_nobody() -> None:
    assert len(written("forest", False)) < 0.35 * len(written("forest"))
    with refused("scoring_only"):
        learner_of(read_snapshot(written("forest", False), TRUSTED))


def refused(*reasons: str) -> "pytest.RaisesExc[SnapshotRefused]":
    assert set(reasons) <= set(REFUSALS)
    return pytest.raises(SnapshotRefused, check=lambda e: e.reason in reasons)


@settings(max_examples=examples(300), deadline=None)
@given(kind=st.sampled_from(KINDS), at=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_no_byte_can_be_changed(kind: str, at: float, bits: int) -> None:
    data = bytearray(written(kind))
    data[int(at * len(data))] ^= bits
    with pytest.raises(SnapshotRefused):
        read_snapshot(bytes(data), TRUSTED)


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.builds(lambda part: written("linear")[: int(part * len(written("linear")))], st.floats(0, 1, exclude_max=True))
)
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with refused("malformed"):
        read_snapshot(data, TRUSTED)


def envelope(kind: str = "linear") -> dict[str, object]:
    return msgspec.json.decode(written(kind))  # type: ignore[no-any-return]


def test_another_key_is_refused() -> None:
    with refused("wrong_signature"):
        read_snapshot(written("linear"), SigningKey(bytes(32)).verify_key)


def test_another_version_is_refused_by_name() -> None:
    for version, reason in ((VERSION + 1, "newer"), (0, "unknown_version"), (-3, "unknown_version")):
        with refused(reason):
            read_snapshot(msgspec.json.encode({**envelope(), "version": version}), TRUSTED)
    with refused("newer"):  # and a newer one may look quite different
        read_snapshot(b'{"version": %d, "whatever": [1]}' % (VERSION + 1), TRUSTED)


def test_content_that_is_not_what_its_hash_says_is_refused() -> None:
    e = envelope()
    e["content"] = {**e["content"], "examples": 1}  # type: ignore[dict-item]
    with refused("tampered"):
        read_snapshot(msgspec.json.encode(e), TRUSTED)


def test_too_large_is_refused_both_ways() -> None:
    with refused("too_large"):
        read_snapshot(written("blend"), TRUSTED, most_bytes=1000)
    with refused("too_large"):
        write_snapshot(FRESH["blend"](), KEY, examples=0, through=0, most_bytes=1000)
    with refused("too_large"):
        read_snapshot(b" " * (MOST_BYTES + 1), TRUSTED)


def test_other_features_are_refused() -> None:
    with refused("other_features"):
        read_snapshot(written("linear"), TRUSTED, schema=Schema((Field("share", "number"),)))


def test_a_number_that_is_none_cannot_be_written() -> None:
    for bad in (float("nan"), float("inf")):
        learner = FRESH["linear"]()
        learner.logistic.model.intercept = bad  # type: ignore[union-attr]
        with refused("not_finite"):
            write_snapshot(learner, KEY, examples=0, through=0)


def signed(change: Callable[[dict[str, object]], object], kind: str) -> bytes:
    """A snapshot whose content was changed before it was signed with the trusted key: a bug of ours, or of a signer's."""
    content = msgspec.json.decode(msgspec.json.encode(envelope(kind)["content"]))
    change(content)
    body = msgspec.json.encode(content)
    return resigned(body)


def resigned(body: bytes, version: int = VERSION) -> bytes:
    from hashlib import sha256

    return msgspec.json.encode(
        {
            "version": version,
            "content_hash": sha256(body).hexdigest(),
            "signature": KEY.sign(signed_part(version, body)).signature.hex(),
            "content": msgspec.Raw(body),
        }
    )


def test_a_snapshot_of_version_1_scores_as_it_did_and_nobody_learns_on_from_it() -> None:
    """Its linear learners remember no gradients, and do not say that they do not."""
    content = envelope()["content"]
    logistic = content["model"]["logistic"]  # type: ignore[index]
    assert (logistic["settings"].pop("memory"), logistic.pop("squares")) == (0, [])
    first = read_snapshot(resigned(msgspec.json.encode(content), version=1), TRUSTED)
    now = read_snapshot(written("linear"), TRUSTED)
    for x, _ in world(2, 50):
        assert first.scorer().predict(x) == now.scorer().predict(x)
    assert (first.version, now.version) == (1, VERSION)
    learned = read_snapshot(Student(Policy()).write(KEY), TRUSTED)
    assert goes_on(learned)
    assert not goes_on(msgspec.structs.replace(learned, version=1))
    with refused("wrong_signature"):  # the version is signed too
        read_snapshot(written("linear").replace(b'"version":2', b'"version":1'), TRUSTED)


def test_numbers_beyond_a_double_are_refused() -> None:
    body = msgspec.json.encode(envelope()["content"])
    intercept = b'"intercept":' + msgspec.json.encode(envelope()["content"]["model"]["logistic"]["intercept"])  # type: ignore[index]
    assert body.count(intercept) == 1
    for bad in (b"1e999", b"NaN", b"null", b'"1"', b"[1]"):
        with refused("malformed", "not_finite"):
            read_snapshot(resigned(body.replace(intercept, b'"intercept":' + bad)), TRUSTED)


def set_at(*path: object, to: object) -> Callable[[dict[str, object]], object]:
    def change(content: dict[str, object]) -> object:
        at: object = content
        for step in path[:-1]:
            at = at[step]  # type: ignore[index]
        at[path[-1]] = to  # type: ignore[index]
        return content

    return change


def nodes(content: dict[str, object]) -> list[object]:
    return content["model"]["members"][0]["tree"]["nodes"]  # type: ignore[index,no-any-return]


BROKEN: list[tuple[str, str, Callable[[dict[str, object]], object]]] = [
    ("linear", "a weight too few", lambda c: c["model"]["logistic"]["weights"].pop()),  # type: ignore[index]
    ("linear", "a spread too many", lambda c: c["model"]["spreads"].append([1, 0.0, 1.0])),  # type: ignore[index]
    ("linear", "a negative variance", set_at("model", "spreads", 0, 2, to=-1.0)),
    ("linear", "another schema", lambda c: c["model"]["schema"]["fields"].pop()),  # type: ignore[index]
    ("linear", "an unknown kind", set_at("model", "kind", to="pickle")),
    ("linear", "one field more", set_at("model", "code", to="import os")),
    ("blend", "a spread of the anomaly score too few", lambda c: c["model"]["anomaly"]["spreads"].pop()),  # type: ignore[index]
    ("forest", "a tree too few", lambda c: c["model"]["members"].pop()),  # type: ignore[index]
    ("forest", "a node too few", lambda c: nodes(c).pop()),
    ("forest", "a node too many", lambda c: nodes(c).append(nodes(c)[-1])),
    ("forest", "a branch where a leaf was", lambda c: nodes(c).__setitem__(-1, ["branch", 1.0, 1.0, 0, 0.5])),
    ("forest", "a column that is not there", lambda c: nodes(c).__setitem__(0, [*nodes(c)[0][:3], 9999, 0.5])),  # type: ignore[index]
    ("forest", "a negative weight", lambda c: nodes(c).__setitem__(0, ["branch", -1.0, *nodes(c)[0][2:]])),  # type: ignore[index]
    ("forest", "an endless tree", lambda c: nodes(c).__setitem__(slice(None), [["branch", 1.0, 1.0, 0, 0.5]] * 5000)),
    ("blend", "another member's schema", lambda c: c["model"]["anomaly"]["schema"]["fields"].pop()),  # type: ignore[index]
    ("blend", "an input too few", lambda c: c["model"]["stack"]["weights"].pop()),  # type: ignore[index]
    ("blend", "half a half-space tree", lambda c: c["model"]["anomaly"]["trees"][0]["last"].pop()),  # type: ignore[index]
    ("blend", "a half-space tree too few", lambda c: c["model"]["anomaly"]["trees"].pop()),  # type: ignore[index]
    ("blend", "a half-space test of nothing", set_at("model", "anomaly", "trees", 0, "columns", 0, to=500)),
]


@pytest.mark.parametrize(("kind", "what", "change"), BROKEN, ids=[b[1] for b in BROKEN])
def test_parts_that_do_not_fit_are_refused_though_signed(kind: str, what: str, change: Callable[[dict[str, object]], object]) -> None:
    data = signed(change, kind)
    for build in (Snapshot.scorer, learner_of):
        with refused("malformed"):
            build(read_snapshot(data, TRUSTED))


def test_a_snapshot_says_what_it_is() -> None:
    snapshot = read_snapshot(written("forest"), TRUSTED)
    assert (snapshot.content.examples, snapshot.content.through, snapshot.content.features) == (900, 901, SCHEMA.id)
    assert snapshot.id == "m_" + envelope("forest")["content_hash"][:10]  # type: ignore[index]
    assert isinstance(snapshot.content, Content)
    assert any(isinstance(n, Branch) for n in islice(snapshot.content.model.members[0].tree.nodes, 1))  # type: ignore[union-attr]


def test_what_does_not_fit_its_name_changes_the_id() -> None:
    assert len({read_snapshot(written(kind), TRUSTED).id for kind in KINDS}) == len(KINDS)
    assert read_snapshot(written("linear"), TRUSTED).id == read_snapshot(written("linear"), TRUSTED).id

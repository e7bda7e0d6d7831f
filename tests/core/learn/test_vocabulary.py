"""Does the vocabulary of the models cover what an episode can say?"""

from types import NoneType
from typing import get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.features.vector import FIELDS, Features, as_dict
from pipeline.core.learn.linear import Linear
from pipeline.core.learn.schema import MOST_COLUMNS, OTHER
from pipeline.core.learn.vocabulary import NOT_LEARNED, WORDS, episode_schema
from tests.examples import examples


def test_every_feature_has_its_columns() -> None:
    schema = episode_schema()
    assert {f.name for f in schema.fields} | set(NOT_LEARNED) == set(FIELDS)
    assert {f.name for f in schema.fields if f.kind == "category"} == set(WORDS)
    assert len(schema.columns) < MOST_COLUMNS / 2
    assert all(OTHER not in f.words for f in schema.fields)
    logs = {f.name for f in schema.fields if f.log}
    assert {"entry_latency_s", "hours_since_sim_swap", "seconds_dispatch_to_call", "requests_10m"} <= logs
    assert not {"entry_latency_z", "hour_share", "call_overlap_share"} & logs


def episodes() -> st.SearchStrategy[Features]:
    """Any value its type allows in every field, None included."""
    kinds = {bool: st.booleans(), int: st.integers(-(2**40), 2**40), float: st.floats(allow_nan=False, allow_infinity=False)}
    fields = {}
    for name, hint in get_type_hints(Features).items():
        words = st.sampled_from((*WORDS.get(name, ()), "never heard of"))
        fields[name] = st.one_of([st.none() if k is NoneType else kinds.get(k, words) for k in get_args(hint) or (hint,)])
    return st.builds(Features, **fields)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(episodes(), min_size=1, max_size=4))
def test_any_episode_can_be_learned_and_scored(lived: list[Features]) -> None:
    learner = Linear.fresh(episode_schema())
    for i, features in enumerate(lived):
        learner.learn(as_dict(features), i % 2 == 0)
    for features in lived:
        said = learner.scorer().predict(as_dict(features))
        assert 0.0 < said.probability < 1.0
        row = learner.encoder.scaled(learner.encoder.row(as_dict(features)))
        assert said.log_odds == pytest.approx(learner.logistic.log_odds(row), abs=1e-9)

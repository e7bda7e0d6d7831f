"""Small worlds to learn from: a schema with every kind of field, and examples whose label depends on some of them."""

from random import Random

from hypothesis import strategies as st

from pipeline.core.learn.blend import Blend
from pipeline.core.learn.forest import Forest
from pipeline.core.learn.linear import Linear
from pipeline.core.learn.schema import FeatureValue, Field, Schema
from pipeline.core.learn.states import AnomalySettings, BlendSettings, ForestSettings, LogisticSettings, TreeSettings

SCHEMA = Schema(
    (
        Field("delay_s", "number", log=True),
        Field("share", "number"),
        Field("idle", "number"),
        Field("constant", "number"),
        Field("new_device", "flag"),
        Field("roaming", "flag"),
        Field("channel", "category", ("sms", "voice")),
    )
)
Example = tuple[dict[str, FeatureValue], bool]


def world(seed: int, n: int, prior: float = 0.1, flipped: bool = False) -> list[Example]:
    """Frauds come sooner, with a greater share, on new devices; their ``roaming`` is often missing; ``idle`` says nothing.

    When ``flipped``, what spoke for fraud speaks against it.
    """
    r = Random(seed)
    out: list[Example] = []
    for _ in range(n):
        fraud = r.random() < prior
        like = fraud != flipped
        f: dict[str, FeatureValue] = {
            "delay_s": r.lognormvariate(2.0 if like else 3.5, 0.7),
            "share": 5.0 + r.gauss(1.0 if like else 0.0, 0.8),
            "idle": r.gauss(0.0, 3.0),
            "constant": 4.0,
            "new_device": r.random() < (0.8 if like else 0.1),
            "roaming": r.random() < 0.2,
            "channel": r.choice(("sms", "sms", "voice", "pigeon")),
        }
        if r.random() < (0.7 if like else 0.1):
            del f["roaming"]
        for name in ("delay_s", "idle", "channel"):
            if r.random() < 0.1:
                del f[name]
        out.append((f, fraud))
    return out


def features() -> st.SearchStrategy[dict[str, FeatureValue]]:
    """Any features that the schema allows, some of them missing, and one it does not know."""
    number = st.floats(allow_nan=False, allow_infinity=False)
    return st.fixed_dictionaries(
        {},
        optional={
            "delay_s": number,
            "share": number | st.integers(-9, 9),
            "idle": number,
            "constant": number,
            "new_device": st.booleans(),
            "roaming": st.booleans(),
            "channel": st.sampled_from(["sms", "voice", "pigeon", ""]),
            "not_in_the_schema": number,
        },
    )


LINEAR = LogisticSettings(rate=0.02, intercept_rate=0.02, balance=5.0)
FOREST = ForestSettings(trees=4, balance=5.0, tree=TreeSettings(columns_per_leaf=6, most_leaves=24, max_depth=8, shrink=5.0))
BLEND = BlendSettings(linear=LINEAR, forest=FOREST, anomaly=AnomalySettings(trees=4, height=4, window=100))


def linear() -> Linear:
    return Linear.fresh(SCHEMA, LINEAR)


def forest(seed: int = 3) -> Forest:
    return Forest.fresh(SCHEMA, FOREST, seed)


def blend(seed: int = 3) -> Blend:
    return Blend.fresh(SCHEMA, BLEND, seed)


FRESH = {"linear": linear, "forest": forest, "blend": blend}

"""Where values are kept decides nothing, and no more of them are decoded than was asked for."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.store import Store

KEYS = st.sampled_from("abcdefg")
STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put", "changes", "restore", "remove", "encoded"]), KEYS, st.integers(0, 9)), max_size=60
)


def store(cached: int) -> Store[int]:
    return Store(lambda value: b"%d" % value, int, cached)


@given(STEPS, st.integers(1, 4))
def test_it_is_a_dictionary_that_knows_what_changed(steps: list[tuple[str, str, int]], cached: int) -> None:
    kept, model, dirty = store(cached), dict[str, int](), dict[str, None]()
    for what, key, value in steps:
        match what:
            case "get":
                assert kept.get(key) == model.get(key)
            case "put":
                kept.put(key, value)
                model[key] = value
                dirty[key] = None
            case "changes":
                assert kept.changes() == {k: b"%d" % model[k] for k in dirty}
                dirty.clear()
            case "restore":
                kept.restore(key, b"%d" % value)
                model[key] = value
            case "remove":
                kept.remove(key)
                model.pop(key, None)
                dirty.pop(key, None)
            case "encoded":
                assert kept.encoded(key) == (b"%d" % model[key] if key in model else None)
        assert len(kept._decoded) <= cached
    assert sorted(kept.keys()) == sorted(model)
    assert len(kept) == len(model)
    assert kept.bytes == sum(len(b"%d" % value) for value in model.values())
    kept.clear()
    assert (len(kept), kept.bytes, kept.changes()) == (0, 0, {})


def test_reading_alone_keeps_the_bound_too() -> None:
    kept = store(3)
    for number in range(100):
        kept.restore(f"k{number}", b"%d" % number)
    assert [kept.get(f"k{number}") for number in range(100)] == list(range(100))
    assert len(kept._decoded) == 3


def test_a_smaller_bound_takes_force_with_the_next_value() -> None:
    kept = store(50)
    for number in range(50):
        kept.put(f"k{number}", number)
    kept.cached = 5
    kept.put("one more", 1)
    assert len(kept._decoded) == 5
    assert len(kept.changes()) == 51

"""Which record of an entity is true? The highest owner epoch, then the highest input offset, in whatever order they are read."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.live.changelog import Image, Kept, decode_value, encode_key, encode_value

written = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(-1, 50)), max_size=40)


@given(written, st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(records: list[tuple[str, int, int]], random: Random) -> None:
    shuffled = list(records)
    random.shuffle(shuffled)
    image = Image()
    for entity, epoch, offset in shuffled:
        image.take(encode_key(entity, epoch), encode_value(offset, b"%s %d %d" % (entity.encode(), epoch, offset)))
    for entity in {entity for entity, _, _ in records}:
        best = max((epoch, offset) for e, epoch, offset in records if e == entity)
        assert image.kept[entity] == Kept(*best, b"%s %d %d" % (entity.encode(), *best))
    assert image.top == max((epoch for _, epoch, _ in records), default=0)
    keys = {encode_key(entity, epoch) for entity, epoch, _ in records}
    assert set(image.superseded) == keys - {encode_key(entity, kept.epoch) for entity, kept in image.kept.items()}


def test_a_tombstone_clears_what_lost_and_forgets_what_it_names() -> None:
    image = Image()
    image.take(encode_key("a", 1), encode_value(1, b"old"))
    image.take(encode_key("a", 2), encode_value(2, b"new"))
    assert list(image.superseded) == [encode_key("a", 1)]
    image.take(encode_key("a", 1), None)
    assert not image.superseded
    assert image.kept["a"].state == b"new"
    image.take(encode_key("a", 2), None)
    assert "a" not in image.kept


@given(st.integers(-1, 1 << 40), st.binary(max_size=20))
def test_values_are_read_back(offset: int, state: bytes) -> None:
    assert decode_value(encode_value(offset, state)) == (offset, state)

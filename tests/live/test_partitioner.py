"""Do we choose the partition every other producer would? Against the hash of aiokafka, and the values of the Java client's own test."""

import pytest
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from pipeline.live import partitioner
from pipeline.live.partitioner import Partitioner, murmur2


@given(st.binary(max_size=80))
def test_the_hash_is_that_of_the_reference(data: bytes) -> None:
    assert murmur2(data) == reference(data)


# org.apache.kafka.common.utils.UtilsTest.testMurmur2
@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_the_java_client(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % (1 << 32)


def test_keys_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioner, "KEPT", 10)
    chosen = Partitioner(7)
    for number in range(100):
        key = b"account-%d" % number
        assert chosen(key) == chosen(key) == (reference(key) & 0x7FFFFFFF) % 7
    assert len(chosen._known) <= 10


def test_a_topic_without_partitions_is_none() -> None:
    with pytest.raises(ValueError, match="at least one partition"):
        Partitioner(0)

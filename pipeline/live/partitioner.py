"""Which partition does a key belong to? The same one that Kafka's default partitioner (Java) chooses, so that all producers agree."""

from struct import unpack_from

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C
KEPT = 500_000  # keys whose partition is remembered, per number of partitions (about 100 bytes each)


def murmur2(data: bytes) -> int:
    """Hash bytes as org.apache.kafka.common.utils.Utils.murmur2 does, as an unsigned 32 bit number."""
    length = len(data)
    h = _SEED ^ length
    words = length >> 2
    for word in unpack_from(f"<{words}I", data):
        k = (word * _M) & _MASK
        h = ((h * _M) & _MASK) ^ (((k ^ (k >> 24)) * _M) & _MASK)
    tail = data[words << 2 :]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


class Partitioner:
    """Map keys to partitions of a topic, remembering them: hashing costs more than looking up."""

    def __init__(self, partitions: int) -> None:
        if partitions < 1:
            raise ValueError("a topic has at least one partition")
        self.partitions = partitions
        self._known: dict[bytes, int] = {}

    def __call__(self, key: bytes) -> int:
        """The partition of ``key``."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            found = self._known[key] = (murmur2(key) & 0x7FFFFFFF) % self.partitions
        return found

"""Who sends the stream? A process of its own that sends each record at its scheduled time, whether or not the broker keeps up (open loop).

    python -m tests.bench.pacer BROKER FILE

FILE holds, as msgpack, when to begin (ms since the epoch) and rows (ms after that, topic, partition, key, value). Writes how late it was
itself to standard output: what a record waited for here is no latency of the pipeline, but it belongs to the one from the schedule.
"""

import asyncio
import gc
import sys
import time
from pathlib import Path

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

TICK_S = 0.010  # producers of a bank gather as well; the latency of the pipeline begins with the append


async def pace(bootstrap: str, starts_at: float, rows: list[tuple[float, str, int, bytes | None, bytes]]) -> list[float]:
    """Send all rows; returns how much later than scheduled each was handed to the producer (ms)."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, acks=1, max_batch_size=1 << 18)
    await producer.start()
    late: list[float] = []
    answers = []
    try:
        for after, topic, partition, key, value in rows:
            while (ahead := starts_at + after - time.time() * 1000) > 0:
                await asyncio.sleep(max(TICK_S, min(ahead / 1000, 0.05)))
            late.append(-ahead)
            answers.append(await producer.send(topic, value, key, partition))
        await asyncio.gather(*answers)
    finally:
        await producer.stop()
    return late


def main() -> None:
    starts_at, rows = msgspec.msgpack.decode(
        Path(sys.argv[2]).read_bytes(), type=tuple[float, list[tuple[float, str, int, bytes | None, bytes]]]
    )
    gc.freeze()
    gc.disable()
    late = sorted(uvloop.run(pace(sys.argv[1], starts_at, rows)))
    sys.stdout.write(f"{late[len(late) // 2]:.1f} {late[int(len(late) * 0.99)]:.1f} {late[-1]:.1f}\n")


if __name__ == "__main__":
    main()

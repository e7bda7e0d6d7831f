"""The baseline: the same detector step in a plain Faust agent with a Faust table, as one would write it first. A process of its own.

    python -m tests.bench.plain_faust worker -l error --without-web

It reads the recorded ``events``; it has no ingest and no route, and is not safe: Faust acks what raised and commits before what was sent
is durable. BENCH_BROKER and BENCH_PREFIX say where.
"""

import os

import faust

from pipeline.core import timeline as timelines
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.events import Keyless
from pipeline.core.policy import Policy
from pipeline.wire.codec import OutcomeEncoder, decode_event

PREFIX = os.environ["BENCH_PREFIX"]
app = faust.App(
    f"{PREFIX}plain-faust",
    broker=f"kafka://{os.environ['BENCH_BROKER']}",
    store="memory://",
    web_enabled=False,
    topic_disable_leader=True,
    topic_partitions=int(os.environ["BENCH_PARTITIONS"]),
    consumer_auto_offset_reset="earliest",
    worker_redirect_stdouts=False,
)
events = app.topic(f"{PREFIX}events", key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)
OUTPUTS = ("alerts", "decisions", "holds", "examples", "sightings")
outputs = {name: app.topic(f"{PREFIX}plain-{name}", key_serializer="raw", value_serializer="raw") for name in OUTPUTS}
raw = faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
table = app.Table("timelines", schema=raw)
detector, encode = Detector(Policy()), OutcomeEncoder("live").encode


@app.agent(events)
async def detect(stream: faust.Stream[bytes]) -> None:
    """Step each event and put the state away."""
    async for event in stream.events():
        decoded = decode_event(event.value)
        if isinstance(decoded, Keyless):
            continue
        kept = table.get(event.key)
        timeline = new_timeline(decoded.account_id) if kept is None else timelines.decode(kept)
        after, outcomes = detector.step(timeline, decoded)
        table[event.key] = timelines.encode(after)
        for outcome in outcomes:
            out = encode(outcome)
            if out is not None:
                await outputs[out.topic].send(key=out.key, value=out.value)


if __name__ == "__main__":
    app.main()

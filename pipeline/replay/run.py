"""What would OffHook have said about this log? The embedded driver: the stages of the live workers, run over a log in one process.

Raw topics go through ingest, route and detect; a recorded ``events`` topic goes to detect as it is. Each stage has one partition,
but a recorded ``events`` topic keeps its own. Beats are made from arrivals, as live.
"""

import gc
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from pipeline.core.beats import BEAT_MS, BeatMaker, for_lines, with_routed
from pipeline.core.champion import Shelf
from pipeline.core.decision import Assessment
from pipeline.core.errors import InvalidEvent, Refusal
from pipeline.core.events import FEEDS, AnyEvent, CampaignSeen, CodesSurged, Feed, Ms
from pipeline.core.outcome import Decision, Example, Finding, Hold, HoldEnded, Late, Outcome, Sighting
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.replay.campaigns import Campaigns
from pipeline.replay.flood import FloodGate
from pipeline.replay.garbage import few_collections
from pipeline.replay.outputs import Outputs
from pipeline.replay.summary import Summary, Tally
from pipeline.wire.codec import OutcomeEncoder, decode_event
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord
from pipeline.wire.pseudonym import Pseudonyms
from pipeline.wire.topics import TOPICS

COLLECT_EVERY = 1_000_000  # records between two looks for reference cycles
_DRAIN_STEP_MS = 10_000  # while time goes on after the log: one beat in ten seconds, each deadline keeps its own time anyway
PROGRESS_EVERY = 1000  # records between two words to whoever watches
Progress = Callable[[int, Ms], None]  # records read so far, arrival of the last one


class BadRecord(Exception):
    """A record could not be read and the run is strict. Says file, line and rule, never the content."""


class MixedLog(Exception):
    """The log holds raw topics and a recorded ``events`` topic: the same facts twice."""


class Replay:
    """Fold a log and write what comes out. One instance, one run.

    ``without``: feeds to leave out, as if the institution did not have them. ``drain``: after the last record let time go on
    until every deadline has fired (raw logs only: a recorded ``events`` topic brings its own beats). ``observe``: told of every
    assessment with its account. ``models``: where the models are that a recorded ``events`` topic activates.
    """

    def __init__(
        self,
        policy: Policy,
        pseudonyms: Pseudonyms,
        out: Path,
        *,
        dead_letters: DeadLetters | None = None,
        without: Collection[Feed] = (),
        prefix: str = "",
        strict: bool = False,
        drain: bool = True,
        observe: Callable[[str, Assessment], None] | None = None,
        models: Shelf | None = None,
    ) -> None:
        self._policy = policy
        self._observe = observe
        self._models = models
        self._out = out
        self._dead_letters = dead_letters or DeadLetters("reference")
        self._without = frozenset(without)
        self._prefix = prefix
        self._strict = strict
        self._drain = drain
        self._ingest = Ingest(policy, pseudonyms)
        self._router = Router(policy)
        self._partitions: dict[int, Partition] = {}
        self._main = self._partition(0)
        self._encode = OutcomeEncoder("replay").encode
        self._tally = Tally()
        self._campaigns = Campaigns(policy, self._tally)
        self._flood = FloodGate(policy.feeds)
        self._feeds: tuple[Feed, ...] = tuple(feed for feed in FEEDS if feed not in self._without)
        self._counts: Counter[str] = Counter()  # records per feed
        self._others: Counter[str] = Counter()  # records of topics that are not read
        self._beats = BeatMaker(dict.fromkeys(self._feeds, 1), lines=1)
        self._arrivals: dict[Feed, Ms] = {}
        self._fresh: set[Feed] = set()  # feeds with an arrival since the last beat
        self._next_beat: Ms = 0
        self._events = 0  # the next offset in the virtual partition of events
        self._lines = 0  # and of lines

    def run(self, records: Iterable[LogRecord], progress: Progress | None = None) -> Summary:
        """Read the records, which must come in order of arrival, and write the outputs.

        Raises BadRecord (``strict`` only), DeadLetterFlood and MixedLog; what was written until then stays, without a summary.
        """
        with few_collections():
            return self._run(records, progress)

    def _run(self, records: Iterable[LogRecord], progress: Progress | None) -> Summary:
        number, first, now, kind = 0, None, 0, ""
        raw = {self._prefix + feed: feed for feed in self._feeds}
        events = self._prefix + "events"
        with Outputs(self._out) as self._outputs:
            for record in records:
                number += 1
                if record.ts > now:
                    now = record.ts
                    first = first or now
                if number % COLLECT_EVERY == 0:
                    gc.collect()
                if progress is not None and number % PROGRESS_EVERY == 0:
                    progress(number, now)
                feed = raw.get(record.topic)
                if feed is not None:
                    kind = kind or "raw"
                    if kind != "raw":
                        raise MixedLog(_mixed(record, self._prefix))
                    if now >= self._next_beat:
                        self._beat(now, now - 1)
                    self._counts[feed] += 1
                    self._arrivals[feed] = now
                    self._fresh.add(feed)
                    self._fold_raw(feed, record)
                elif record.topic == events:
                    kind = kind or "events"
                    if kind != "events":
                        raise MixedLog(_mixed(record, self._prefix))
                    self._counts["events"] += 1
                    self._fold_recorded(record)
                else:
                    self._set_aside(record)
            if kind == "raw" and self._drain:
                self._let_time_go_on(now)
            if progress is not None:
                progress(number, now)
            summary = self._summary(number, kind or "raw", first, now if number else None)
            self._outputs.finish(summary)
        return summary

    def _fold_raw(self, feed: Feed, record: LogRecord) -> None:
        try:
            addressed = self._ingest.read(feed, record.value, record.ts, record.key)
        except InvalidEvent as e:
            self._refuse(feed, record, e)
            return
        for topic, _, event in addressed:
            if topic == "events":
                self._fold(event, record)  # type: ignore[arg-type]  # the topic says which union it is
            else:
                self._lines += 1
                for routed in self._router.fold(self._lines - 1, event):  # type: ignore[arg-type]  # as above
                    self._fold(routed, record)

    def _fold(self, event: AnyEvent, record: LogRecord | None) -> None:
        offset = self._events
        self._events = offset + 1
        outcomes = self._main.fold(offset, event)
        if self._main.tripped:
            raise self._main.tripped[0][1]  # a bug of ours: live sets the account aside, a replay is where to look at it
        if outcomes:
            self._emit(outcomes, event, record)
            for said in self._campaigns.news(outcomes):
                self._fold(said, None)

    def _fold_recorded(self, record: LogRecord) -> None:
        try:
            if record.value is None:
                raise InvalidEvent("no_value", "a record of events has a value")
            event = decode_event(record.value)
        except InvalidEvent as e:
            self._refuse("events", record, e)
            return
        if type(event) is CampaignSeen or type(event) is CodesSurged:
            self._tally.told(event)
        partition = self._partitions.get(record.partition)
        if partition is None:  # one that is empty still knows the time and the model in force
            partition = self._partition(record.partition)
        self._events += 1
        outcomes = partition.fold(record.offset, event)
        if partition.tripped:
            raise partition.tripped[0][1]
        if outcomes:
            self._emit(outcomes, event, record)

    def _partition(self, number: int) -> Partition:
        self._partitions[number] = partition = Partition(self._policy, models=self._models)
        partition.detector.observe = self._observe
        return partition

    def _emit(self, outcomes: list[Outcome], event: AnyEvent, record: LogRecord | None) -> None:
        tally = self._tally
        for outcome in outcomes:
            ts = event.arrived_at
            match outcome:
                case Decision():
                    tally.decision(outcome)
                    ts = outcome.time
                case Finding():
                    tally.finding(outcome)
                    ts = outcome.time
                case Hold():
                    tally.holds += 1
                case HoldEnded():
                    tally.holds_ended += 1
                case Example():
                    tally.examples += 1
                    ts = outcome.time
                case Sighting():
                    tally.sightings += 1
                    continue
                case Late():
                    tally.late += 1
                    seconds = (outcome.arrived_at - outcome.occurred_at) // 1000
                    if record is not None:
                        self._dead_letter(record, "late", f"event arrived {seconds} s after it occurred", ts)
                    continue
            out = self._encode(outcome)
            if out is not None:
                self._outputs.write(out, ts)

    def _beat(self, at: Ms, read_to: Ms) -> None:
        """Write the beat that is due at arrival time ``at``; everything that arrived up to ``read_to`` has been read."""
        for feed in sorted(self._fresh):
            self._beats.arrived(feed, 0, self._arrivals[feed])
        self._fresh.clear()
        self._beats.all_caught_up(read_to)
        beat = self._beats.due(at)
        self._next_beat = at + BEAT_MS
        if beat is not None:
            self._router.fold(self._lines, for_lines(beat))
            self._lines += 1
            self._fold(with_routed(beat, {0: self._router.routed_to}), None)

    def _let_time_go_on(self, now: Ms) -> None:
        """Beat on after the last record until the last challenge is settled (core.detector: validity, what follows, lateness, slack).

        A feed that was there at the end stays there, so that the end of the log does not look like an outage.
        """
        windows, bounds = self._policy.windows, self._policy.bounds
        most_s = windows.code_valid_most_s + windows.after_s + bounds.lateness_s + bounds.slack_s + bounds.future_s
        silent = now - 1000 * self._policy.feeds.silent_s
        alive = [feed for feed, last in self._arrivals.items() if last > silent]
        for at in range(now + BEAT_MS, now + 1000 * most_s + _DRAIN_STEP_MS, _DRAIN_STEP_MS):
            self._arrivals.update(dict.fromkeys(alive, at))
            self._fresh.update(alive)
            self._beat(at, at)

    def _refuse(self, feed: str, record: LogRecord, error: InvalidEvent) -> None:
        if self._strict:
            where = record.source or f"{record.topic}[{record.partition}]@{record.offset}"
            raise BadRecord(f"{where}: {record.topic}: {error.reason}: {error.detail}") from None
        self._dead_letter(record, error.reason, error.detail, record.ts)
        if feed in self._counts:
            self._flood.refused(feed, self._counts[feed], error.reason)

    def _dead_letter(self, record: LogRecord, reason: Refusal, detail: str, ts: Ms) -> None:
        self._tally.dead_letters[reason] += 1
        self._tally.dead_letter_feeds[record.topic] += 1
        out = self._dead_letters.record(
            record.topic, record.partition, record.offset, record.ts, reason, detail, record.key, record.value, record.headers
        )
        self._outputs.write(out, ts)

    def _set_aside(self, record: LogRecord) -> None:
        """Count a record of a topic that is ours but not an input, or was left out; refuse one of a topic we do not know."""
        self._others[record.topic] += 1
        if not record.topic.startswith(self._prefix) or record.topic.removeprefix(self._prefix) not in TOPICS:
            self._refuse(record.topic, record, InvalidEvent("unknown_topic", "not a topic that OffHook reads"))

    def _summary(self, records: int, kind: str, first: Ms | None, last: Ms | None) -> Summary:
        return Summary(
            policy_id=self._policy.id,
            log=kind,
            first_arrival=first,
            last_arrival=last,
            records=records,
            feeds=dict(sorted(self._counts.items())),
            other_topics=dict(sorted(self._others.items())),
            events=self._events,
            accounts=sum(len(partition) for partition in self._partitions.values()),
            lines=len(self._router),
            **self._tally.figures(),
        )


def _mixed(record: LogRecord, prefix: str) -> str:
    return (
        f"{record.source or record.topic}: the log holds both raw topics and a recorded '{prefix}events' topic, the same facts twice; "
        f"keep one of them (kcat -t, or separate files)"
    )

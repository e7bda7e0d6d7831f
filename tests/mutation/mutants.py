"""What would go wrong if one line were other than it is? Faults put into the source one at a time, and the tests that must notice each.

``original`` must stand exactly once in the file; if it does not, the list is stale, and a fast test says so (test_mutants). None of
the tests needs a broker.
"""

from typing import Final, NamedTuple

MACHINE: Final = "tests/live/test_machine.py"
CLAIM: Final = "tests/live/test_machine_claim.py"
CONSUMER: Final = "tests/live/test_consumer.py"
FETCHING: Final = "tests/live/test_fetching.py"
RUNNER: Final = "tests/live/test_runner.py"
ALIGN: Final = "tests/live/test_align.py"
LAWS: Final = "tests/core/test_laws.py"
BEATS: Final = "tests/core/test_beats.py"
HONEST: Final = "tests/replay/test_honest.py"
DAYS: Final = "tests/core/learn/test_drift_days.py"
DRIFT: Final = "tests/live/test_drift_told.py"
SURGE: Final = "tests/core/test_surge.py"
IDS: Final = "tests/core/test_decision_ids.py"


class Mutant(NamedTuple):
    """One fault. ``breaks``: what it breaks, in words; ``tests``: files or tests, at least one of which must fail."""

    name: str
    breaks: str
    file: str
    original: str
    replacement: str
    tests: tuple[str, ...]


MUTANTS: Final = (
    # --- whose state it is
    Mutant(
        "last-record-wins",
        "of an entity's records the last is believed, not that of the newest owner: a woken worker overwrites state",
        "pipeline/live/changelog.py",
        "if have is None or (epoch, offset) >= have[:2]:",
        "if True:",
        ("tests/live/test_changelog_image.py", MACHINE),
    ),
    Mutant(
        "constant-epoch",
        "every owner writes under the same epoch: nobody can tell old from new",
        "pipeline/live/state.py",
        "        epoch = max(generation, image.top + 1)\n",
        "        epoch = 1\n",
        (MACHINE,),
    ),
    Mutant(
        "claim-not-contiguous",
        "a claim stands although somebody wrote between the read and it: what was written is not known to the new owner",
        "pipeline/live/state.py",
        "            if offset == self._position:\n",
        "            if True:\n",
        (CLAIM,),
    ),
    Mutant(
        "overtaken-goes-on",
        "an owner that was overtaken goes on: it commits input of which a restore knows nothing",
        "pipeline/live/state.py",
        "        if image.top > self.epoch:\n            raise Overtaken(",
        "        if False:\n            raise Overtaken(",
        (MACHINE,),
    ),
    Mutant(
        "clock-first",
        "the clock is written before the state it speaks for: a crash in between loses the state",
        "pipeline/live/state.py",
        "        records.append(Outgoing(suffix, prefix + self._fold.clock()))\n",
        "        records.insert(0, Outgoing(suffix, prefix + self._fold.clock()))\n",
        (MACHINE,),
    ),
    Mutant(
        "tombstone-for-the-living",
        "the tombstone is for the record that is in force, not for the one it supersedes",
        "pipeline/live/state.py",
        "            self._graves.append(encode_key(entity, former))\n",
        "            self._graves.append(encode_key(entity, epoch))\n",
        (MACHINE,),
    ),
    Mutant(
        "keep-without-looking",
        "a partition kept over a rebalance is not read again although somebody else owned it in between",
        "pipeline/live/state.py",
        "        if image.top > self.epoch:\n            return False\n",
        "",
        (CLAIM,),
    ),
    # --- the order of effects
    Mutant(
        "send-not-awaited",
        "state becomes durable before the alerts are: a crash in between and nobody ever hears of them",
        "pipeline/live/folding.py",
        "        await effects.send()\n",
        "        sending = asyncio.ensure_future(effects.send())  # noqa: F841\n",
        (MACHINE,),
    ),
    Mutant(
        "persist-not-awaited",
        "a batch is committed before its state is durable: a crash in between loses it",
        "pipeline/live/folding.py",
        "            await state.persist(batch.last)\n",
        "            persisting = asyncio.ensure_future(state.persist(batch.last))  # noqa: F841\n",
        (MACHINE,),
    ),
    Mutant(
        "changelog-before-alerts",
        "the two effects are swapped: state speaks for records whose outputs are not written",
        "pipeline/live/folding.py",
        "        await effects.send()\n        foreign = state.foreign\n",
        "        foreign = state.foreign\n        await state.persist(batch.last)\n        await effects.send()\n",
        (MACHINE,),
    ),
    Mutant(
        "commit-before-changelog",
        "a batch is settled before it is handled: it may be committed while nothing of it is durable",
        "pipeline/live/runner.py",
        "            await self.stage.handle(batch)\n            consumer.settle(message)\n",
        "            consumer.settle(message)\n            await self.stage.handle(batch)\n",
        (MACHINE,),
    ),
    Mutant(
        "answer-before-the-broker",
        "a sender is told that the broker has its records before it has them",
        "pipeline/live/outbox.py",
        "                await self._append(topic, partition, [record for records, _ in taken for record in records])\n"
        "                for _, done in taken:\n                    if not done.done():\n                        done.set_result(None)\n",
        "                for _, done in taken:\n                    if not done.done():\n                        done.set_result(None)\n"
        "                await self._append(topic, partition, [record for records, _ in taken for record in records])\n",
        (MACHINE,),
    ),
    Mutant(
        "failure-unheard",
        "a send that failed counts as done",
        "pipeline/live/outbox.py",
        "                    done.set_exception(e) if isinstance(e, Exception) else done.cancel()\n",
        "                    done.set_result(None)\n",
        (CLAIM,),
    ),
    # --- what was folded already
    Mutant(
        "no-account-guard",
        "an account that was durable beyond the clock is folded again: it counts twice",
        "pipeline/core/partition.py",
        "        elif timeline.offset >= offset:\n            return []\n",
        "",
        (MACHINE,),
    ),
    Mutant(
        "no-batch-guard",
        "a batch that is durable is handled again: the clock goes back",
        "pipeline/live/folding.py",
        "        if batch.last <= state.folded:\n            metrics",
        "        if False:\n            metrics",
        (CLAIM,),
    ),
    Mutant(
        "refusal-forgotten",
        "a record that nobody can read is in no dead letter",
        "pipeline/live/folding.py",
        "                    effects.refuse(self._letters, batch, record, e.reason, e.detail)\n",
        "                    pass\n",
        (MACHINE,),
    ),
    # --- where to read on
    Mutant(
        "offsets-are-believed",
        "input is read on from the committed offset, not from where the state ends",
        "pipeline/live/folding.py",
        "        if 0 <= state.folded < batch.first - 1 and held.gap != state.folded:\n",
        "        if False:\n",
        (MACHINE,),
    ),
    Mutant(
        "no-rewind-while-idle",
        "what was committed ahead of the state is not read again as long as nothing new arrives",
        "pipeline/live/folding.py",
        "                        await self._reader.rewind(tp, held.state.folded + 1)\n",
        "                        pass\n",
        (CLAIM,),
    ),
    Mutant(
        "sought-is-forgotten",
        "a fetch that a seek overtook is handed out: the records between are skipped",
        "pipeline/live/consumer.py",
        "            self._sought[tp] = offset\n",
        "",
        (CONSUMER,),
    ),
    Mutant(
        "given-back-without-a-seek",
        "a batch that must be read again from elsewhere is settled, and reading goes on behind it",
        "pipeline/live/consumer.py",
        "            self._waiting.pop(tp, None)\n            await self.seek_wait({tp: offset})\n            if self._holds(message):\n",
        "            self._waiting.pop(tp, None)\n            if self._holds(message):\n",
        (MACHINE,),
    ),
    Mutant(
        "commit-beyond",
        "one offset more is committed than was settled",
        "pipeline/live/consumer.py",
        "            self._position[message.tp] = message.offset + 1\n",
        "            self._position[message.tp] = message.offset + 2\n",
        (MACHINE,),
    ),
    Mutant(
        "never-committed-never-sought",
        "what a rebalance overtook of a partition without a committed offset is dropped: its first records are lost",
        "pipeline/live/consumer.py",
        "            if anew:\n                await self._thread.seek_to_beginning(*map(driver.ensure_aiokafka_TP, anew))\n",
        "",
        (CONSUMER,),
    ),
    Mutant(
        "refused-counts-as-committed",
        "an offset whose commit was refused counts as committed: it is never committed again, and a restart reads from before it",
        "pipeline/live/consumer.py",
        "        if not done or assignments != self._assignments:\n",
        "        if False:\n",
        (CONSUMER,),
    ),
    Mutant(
        "never-sought-back-again",
        "what could not be sought back, since no broker answered, is never sought back: first records wait until the next rebalance",
        "pipeline/live/consumer.py",
        "        if self._dropped and self.flow_active and not await self._seek_back():\n",
        "        if False:\n",
        (CONSUMER,),
    ),
    Mutant(
        "flow-before-the-seek",
        "a worker that had no partitions hands out what comes before its partitions are sought: it comes twice",
        "pipeline/live/consumer.py",
        "        self.stop_flow()\n        self._assignments += 1\n",
        "        self._assignments += 1\n",
        (CONSUMER,),
    ),
    Mutant(
        "second-answer-for-the-first",
        "of a broker that answers again while another is waited for only the last answer is taken: what was before it is lost",
        "pipeline/live/fetching.py",
        "                fetched.setdefault(tp, []).extend(records)\n",
        "                fetched[tp] = records\n",
        (FETCHING,),
    ),
    Mutant(
        "rests-unasked",
        "a partition at its end rests again before it was asked for: a backlog beside it starves it, and its calls are not heard",
        "pipeline/live/fetching.py",
        " and self._answered.get(tp) != state.timestamp:\n",
        ":\n",
        (FETCHING,),
    ),
    Mutant(
        "ever-more-in-hand",
        "more is fetched while as much as two fetches is being folded: after an outage a rebalance waits for a whole backlog",
        "pipeline/live/consumer.py",
        " and wanted and not self._enough()):\n",
        " and wanted):\n",
        (CONSUMER,),
    ),
    Mutant(
        "fold-unsaid",
        "a batch that is being folded does not say so: the worker takes it for one that only waits, and fetches on",
        "pipeline/live/runner.py",
        "            batch.waits = False\n",
        "",
        (RUNNER,),
    ),
    # --- order and time
    Mutant(
        "no-alignment",
        "after an outage one feed is read to its end before the others: entries overtake their calls",
        "pipeline/live/align.py",
        "        return lead, min(lead, min(unwritten, default=lead) + AHEAD_MS)\n",
        "        return lead, lead\n",
        (ALIGN,),
    ),
    Mutant(
        "fetch-of-before",
        "a fetch that was asked for under an earlier assignment is handed out: what lies between it and the place sought since is skipped",
        "pipeline/live/consumer.py",
        "        self._assignments += 1\n",
        "",
        (CONSUMER,),
    ),
    Mutant(
        "ahead-of-what-is-held-back",
        "while all that is left of a backlog is held back, empty feeds are said to be read up to now: every other feed then counts as late",
        "pipeline/live/ingest.py",
        "min(idle.values(), default=None) if oldest is None else oldest\n",
        "max(idle.values(), default=None) if oldest is None else oldest\n",
        ("tests/live/test_ingest_time.py",),
    ),
    Mutant(
        "every-other-beat",
        "every other beat is dropped: deadlines fire late, and replay differs from live",
        "pipeline/core/beats.py",
        "        self._last = now\n",
        "        self._last = now + BEAT_MS\n",
        (BEATS, "tests/core/test_route_lag.py", "tests/test_scenarios.py", "tests/replay/test_run.py"),
    ),
    Mutant(
        "sealed-early",
        "events are sealed before all that may precede them has arrived: the order of arrival decides",
        "pipeline/core/detector.py",
        "        horizon = now - self._retain\n",
        "        horizon = now - self._retain // 8\n",
        (LAWS, "tests/test_scenarios.py"),
    ),
    Mutant(
        "ids-are-not-known-again",
        "a record that is delivered twice is folded twice",
        "pipeline/core/detector.py",
        "            if not self._replaces(t, known, event):\n                return\n",
        "            self._replaces(t, known, event)\n",
        (LAWS,),
    ),
    Mutant(
        "told-again",
        "what route reads again is told again, to those linked meanwhile too: behind the beat that says it has come",
        "pipeline/core/route.py",
        "            if event in state.recent:\n                return []\n",
        "            pass\n",
        ("tests/core/test_route.py",),
    ),
    Mutant(
        "passed-over-too-soon",
        "a call that began before the entry is passed over when it is answered or ends behind it",
        "pipeline/core/relevance.py",
        "                if e.occurred_at <= entered_at or e.peer_is_bank is True:\n",
        "                if e.peer_is_bank is True:\n",
        ("tests/core/test_relevance.py", LAWS),
    ),
    # --- what is kept
    Mutant(
        "evicted-unwritten",
        "a decoded value that makes room is dropped without being encoded: what it had learned is gone",
        "pipeline/core/store.py",
        "                self._stale.discard(oldest)\n                self._encoded.put(oldest, self._encode(old))\n",
        "                self._stale.discard(oldest)\n",
        ("tests/core/test_store.py", LAWS, MACHINE),
    ),
    # --- what is normal for everybody
    Mutant(
        "attacks-are-normal",
        "the entries of attacks that somebody has found out teach what honest customers do",
        "pipeline/replay/honest.py",
        "        elif self._is_attack(code, challenge.session_id) or (code[0], challenge.session_id) in self._attacked:\n",
        "        elif False:\n",
        (HONEST,),
    ),
    Mutant(
        "counted-too-soon",
        "a code is counted before all that belongs to it has arrived: the order of the log decides what is normal",
        "pipeline/replay/honest.py",
        "            self._sweep(self._now - self._wait)\n",
        "            self._sweep(self._now - self._wait // 8)\n",
        (HONEST,),
    ),
    # --- what is refused
    Mutant(
        "refusal-holds-the-batch",
        "a record that cannot be read keeps the batch it came in alive, until somebody looks for garbage",
        "pipeline/wire/ingest.py",
        "            del refused\n",
        "            pass\n",
        ("tests/wire/test_refusals.py",),
    ),
    # --- what has changed
    Mutant(
        "day-without-the-slow-partition",
        "a day is looked at while a partition is still in it: a change is made of what has not been read yet",
        "pipeline/core/learn/drift_days.py",
        "        reached = min((newest for partition, newest in self._newest.items() if partition not in self._at_end), default=clock)\n",
        "        reached = clock\n",
        (DAYS,),
    ),
    Mutant(
        "late-by-the-reading",
        "a decision is late by how far other partitions were read: the same log gives other days",
        "pipeline/core/learn/drift_days.py",
        "if number <= self._last or self._end(number) <= self._newest[partition]:",
        "if number <= self._last or self._end(number) <= max(self._newest.values()):",
        (DAYS,),
    ),
    Mutant(
        "told-by-two",
        "a worker that starts tells what the one before it has told: somebody is called twice",
        "pipeline/live/drift.py",
        "                await self._look(watch, turns, tell=False)\n        #",
        "                await self._look(watch, turns)\n        #",
        (DRIFT,),
    ),
    # --- a surge of codes, and what a decision is called
    Mutant(
        "surge-of-the-moment",
        "a code is settled as it was told first, whatever its five minutes came to: the order in which codes were read shows",
        "pipeline/core/detector.py",
        " or not track.used or surge.around(self.surges, track.start):",
        " or not track.used:",
        (SURGE,),
    ),
    Mutant(
        "last-surge-wins",
        "of what is said of five minutes the last is believed: read twice or in another order it is less than it was",
        "pipeline/core/surge.py",
        "new if have is None else _greater(have, new)",
        "new",
        (SURGE,),
    ),
    Mutant(
        "surge-at-every-code",
        "a surge is told to every partition with every code that adds to it",
        "pipeline/core/gatherer.py",
        "<= surge.level(before, codes):",
        "< surge.level(before, codes):",
        (SURGE,),
    ),
    Mutant(
        "codes-not-accounts",
        "each code is counted, not each account: one that is bombed is a surge of the bank",
        "pipeline/core/detector.py",
        "said = Sighting(entity=surge.entity_of(at), account_id=t.account_id,",
        "said = Sighting(entity=surge.entity_of(at), account_id=event.event_id,",
        (SURGE,),
    ),
    Mutant(
        "two-contents-one-id",
        "a decision that is told again after an alarm has the id of the one before it: whoever keeps one of each loses the finding",
        "pipeline/core/decision.py",
        '    told = ["finding"] if has_finding and assessment.level != "alert" else []\n',
        "    told: list[str] = []\n",
        (IDS,),
    ),
)

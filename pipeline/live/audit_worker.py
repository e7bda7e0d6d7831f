"""How does the audit run beside the other stages? Round after round, with health and metrics like theirs, until it is told to end.

It stands off the hot path: no group, nothing committed, nothing written. When live runs another policy or version it waits and begins
anew, since two builds may differ and both be right.
"""

import asyncio
import logging
import signal
from collections.abc import Iterable
from typing import Final

from aiokafka.errors import OffsetOutOfRangeError

from pipeline.live import metrics
from pipeline.live.audit import Audit, OtherBuild
from pipeline.live.audit_topics import Log, open_log
from pipeline.live.health import Health, Listener
from pipeline.live.mismatch import Mismatch
from pipeline.live.models import shelf_of
from pipeline.settings import Settings

log = logging.getLogger(__name__)
STAGE: Final = "audit"
EVERY_S: Final = 2.0  # between two rounds: an error is seen within seconds, and most of the time is idle
BLIND_S: Final = 300.0  # until it looks again whether live runs the same build; beginning anew reads the whole changelog


class AuditWorker:
    """Runs the comparison until ``stop`` is set."""

    def __init__(self, settings: Settings, health: Health, stop: asyncio.Event) -> None:
        self._settings = settings
        self._policy = settings.policy()
        self._health = health
        self._stop = stop
        self._checked: dict[str, int] = {}
        self._beginning = False  # is live's state of now being read?
        health.expect(STAGE)

    async def run(self) -> None:
        """Compare until told to end. Raises KafkaError, NotThere and UnsupportedState: then the worker ends, and the platform starts it."""
        while not self._stop.is_set():
            try:
                async with open_log(self._settings, self._looked) as kafka:
                    await self._follow(kafka)
            except OtherBuild as e:
                metrics.AUDIT_BLIND.set(1)
                log.warning(
                    "audit: %s, this worker another one: nothing is compared, a new beginning in %.0f s",
                    e,
                    BLIND_S,
                    extra={"action": "during a roll-out wait for its end; else start audit with the policy file and image of detect"},
                )
                await self._wait(BLIND_S)
            except OffsetOutOfRangeError:
                log.warning(
                    "audit: retention has overtaken the reading, a new beginning",
                    extra={"action": "none if it happens once; else lower OFFHOOK_AUDIT_SHARE or give the worker more processor time"},
                )

    async def _follow(self, kafka: Log) -> None:
        source = self._settings.topic("events")
        for tp in kafka.places("events"):
            self._health.assigned(STAGE, source, tp.partition)
        audit = Audit(self._policy, self._settings.audit_share, kafka, shelf_of(self._settings, STAGE))
        self._beginning = True
        await audit.begin()
        self._beginning = False
        for tp in kafka.places("events"):
            self._health.restored(STAGE, source, tp.partition)
        log.info("audit: begins with %d accounts", sum(parity.accounts for parity in audit.parities))
        self._checked = {}
        while not self._stop.is_set():
            read = sum(parity.folded + 1 for parity in audit.parities)
            mismatches = await audit.round()
            metrics.AUDIT_BLIND.set(0)
            metrics.RECORDS_READ.labels(STAGE, source).inc(sum(parity.folded + 1 for parity in audit.parities) - read)
            self._tell(mismatches)
            self._count(audit)
            for partition, (_, end) in (await kafka.bounds("events")).items():
                self._health.observed(STAGE, source, partition, audit.parities[partition].folded + 1, end)
            await self._wait(EVERY_S)

    def _tell(self, mismatches: Iterable[Mismatch]) -> None:
        for one in mismatches:
            metrics.PARITY_MISMATCHES.labels(one.what).inc()
            log.error(
                "audit: %s of an account: %s, at %s",
                one.what,
                one.problem,
                one.place,
                extra={
                    "action": "run `offhook audit --accounts 100% --values` to see which accounts differ; if detect was last deployed"
                    " or repaired, roll that back; send place and versions to those who maintain OffHook"
                },
            )

    def _count(self, audit: Audit) -> None:
        for what in metrics.PARITY_WHAT:
            now = sum(parity.checked[what] for parity in audit.parities)
            metrics.PARITY_CHECKED.labels(what).inc(now - self._checked.get(what, 0))
            self._checked[what] = now
        accounts, compared = (sum(getattr(parity, name) for parity in audit.parities) for name in ("accounts", "judged"))
        metrics.AUDIT_ACCOUNTS.labels("compared").set(compared)
        metrics.AUDIT_ACCOUNTS.labels("left_out").set(accounts - compared)

    def _looked(self, records: int) -> None:
        self._health.looked(STAGE)
        if self._beginning and records:
            self._health.progressed(STAGE, records)

    async def _wait(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not self._stop.is_set() and (left := end - asyncio.get_running_loop().time()) > 0:
            self._health.looked(STAGE)
            self._health.progressed(STAGE)  # waiting out another build is no restore that hangs
            try:
                await asyncio.wait_for(self._stop.wait(), min(left, 5.0))
            except TimeoutError:
                continue


async def run_audit(settings: Settings) -> None:
    """Run the audit until SIGTERM or SIGINT. Raises what ended it otherwise."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    health = Health()
    listener = Listener(health, settings.http_host, settings.http_port)
    await listener.start()
    running = asyncio.create_task(AuditWorker(settings, health, stop).run())
    stopping = asyncio.create_task(stop.wait())
    try:
        # A read under way is not waited for: nothing it holds would be lost.
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
        await listener.stop()

"""How does a worker start and end? Makes the Faust app of one stage and runs it until SIGTERM; several stages are as many processes.

Each stage is a consumer group of its own, so that stages can be split over processes without reading anything twice. One Faust app
is one group and wants a process for itself: ``offhook worker`` with several stages starts one child for each.
"""

import asyncio
import logging
import ssl
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import faust
from faust.types.auth import AuthProtocol
from mode import Service
from mode.supervisors import CrashingSupervisor

from pipeline.core.events import FEEDS, Feed
from pipeline.live import logs, metrics
from pipeline.live.changelog import ChangelogReader
from pipeline.live.detect import DetectStage
from pipeline.live.health import Health, Listener
from pipeline.live.ingest import IngestStage
from pipeline.live.outbox import Outbox
from pipeline.live.preflight import NotFit, partitions_of, require_arrival_times
from pipeline.live.route import RouteStage
from pipeline.live.runner import Runner
from pipeline.live.stage import Stage
from pipeline.live.supervise import run_children
from pipeline.settings import Settings, SettingsError
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.ingest import Ingest
from pipeline.wire.pseudonym import Pseudonyms

log = logging.getLogger(__name__)
STAGES = ("ingest", "route", "detect")
REQUEST_TIMEOUT_S = 40.0  # the brokers' answer to anything; a session may not be longer


def group(settings: Settings, stage: str) -> str:
    """The consumer group of a stage."""
    return f"{settings.prefix}offhook-{stage}"


def make_app(settings: Settings, stage: str) -> faust.App:
    """A Faust app that is told all that was learned about Faust: nothing it does on its own is left on."""
    session = float(settings.session_timeout_s)
    data_dir = settings.data_dir or tempfile.mkdtemp(prefix="offhook-")
    return faust.App(
        group(settings, stage),
        broker=[f"kafka://{address}" for address in settings.bootstrap],
        broker_credentials=_credentials(settings),
        broker_client_id=group(settings, stage),
        broker_session_timeout=session,
        broker_heartbeat_interval=max(1.0, session / 5),
        broker_request_timeout=max(REQUEST_TIMEOUT_S, session + 5),
        broker_rebalance_timeout=max(60.0, session),
        broker_commit_interval=1.0,
        broker_max_poll_records=settings.batch_records,
        consumer_max_fetch_size=settings.fetch_bytes,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id or None,
        datadir=str(Path(data_dir) / stage),
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=True,
        agent_supervisor=CrashingSupervisor,
        worker_redirect_stdouts=False,
    )


def _credentials(settings: Settings) -> Any:
    context: ssl.SSLContext | None = settings.ssl_context()
    if not settings.sasl:
        return context
    credentials = faust.SASLCredentials(
        username=settings.sasl_user, password=settings.password(), ssl_context=context, mechanism=settings.sasl_mechanism
    )
    if context is None:  # settings refuse this unless it was asked for by name
        credentials.protocol = AuthProtocol.SASL_PLAINTEXT
    return credentials


def make_stage(settings: Settings, name: str, feeds: dict[Feed, int], health: Health) -> Stage:
    """Build a stage. ``feeds``: the raw topics that exist and their partitions. Raises SettingsError."""
    policy = settings.policy()
    letters = DeadLetters(settings.dead_letters, settings.dead_letters_public_key())
    open_changelog = partial(ChangelogReader, settings.connection())
    if name == "ingest":
        try:
            pseudonyms = Pseudonyms.from_text(settings.pseudonym_text())
        except SettingsError:
            raise
        except ValueError as e:
            raise SettingsError(f"OFFHOOK_PSEUDONYM_KEY_FILE: {e}") from None
        return IngestStage(policy, Ingest(policy, pseudonyms, settings.record_bytes), feeds, settings.prefix, letters, health)
    if name == "route":
        return RouteStage(policy, settings.cached_accounts, settings.prefix, open_changelog, letters, health)
    return DetectStage(policy, settings.cached_accounts, settings.prefix, open_changelog, letters, health)


class _Doors(Service):  # type: ignore[misc]  # mode carries no types that mypy could follow
    """Opens the health and metrics listener before the stage starts, and closes it last."""

    def __init__(self, health: Health, settings: Settings) -> None:
        super().__init__()
        self._listener = Listener(health, settings.http_host, settings.http_port)

    async def on_start(self) -> None:
        await self._listener.start()

    async def on_stop(self) -> None:
        await self._listener.stop()


async def _feeds_on(settings: Settings) -> dict[Feed, int]:
    found = await partitions_of(settings, FEEDS)
    if not found:
        raise NotFit(f"none of the raw topics exists at {settings.brokers} with the prefix {settings.prefix!r}: `offhook topics create`")
    await require_arrival_times(settings, tuple(found))
    return {feed: found[feed] for feed in FEEDS if feed in found}


def _run_stage(settings: Settings, name: str) -> int:
    health = Health()
    metrics.BUILD_INFO.labels("", settings.policy().id, "").set(1)
    feeds: dict[Feed, int] = asyncio.run(_feeds_on(settings)) if name == "ingest" else {}
    stage = make_stage(settings, name, feeds, health)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = make_app(settings, name)
    runner = Runner(app, stage, Outbox(settings.connection()), health)
    app.finalize()
    worker = faust.Worker(
        app, _Doors(health, settings), runner, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False, loglevel="INFO"
    )
    worker.spinner = None  # it would write control characters to standard output
    try:
        worker.execute_from_commandline()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


def run_worker(settings: Settings, stages: tuple[str, ...]) -> int:
    """Run stages until SIGTERM or SIGINT; returns the exit code: 0 after a graceful end, 1 after a failure, 2 when it may not start."""
    logs.configure(settings)
    if len(stages) > 1:
        return run_children(stages, settings.http_port)
    try:
        return _run_stage(settings, stages[0])
    except (NotFit, SettingsError) as e:
        log.error("%s", e)
        return 2

"""How does a worker start and end? Makes the Faust app of one stage and runs it until SIGTERM; several stages are as many processes.

Each stage is a consumer group of its own, so that stages can be split over processes without reading anything twice. One Faust app
is one group and wants a process for itself: ``offhook worker`` with several stages starts one child for each.
"""

import asyncio
import gc
import logging
import ssl
from contextlib import nullcontext
from functools import partial
from typing import Any

import faust
import uvloop
from faust.types.auth import AuthProtocol
from mode import Service
from mode.supervisors import CrashingSupervisor
from nacl.signing import SigningKey

from pipeline.core.events import FEEDS, Feed
from pipeline.exits import FAILED, TOLD
from pipeline.live import logs, metrics
from pipeline.live.audit_worker import STAGE as AUDIT
from pipeline.live.audit_worker import run_audit
from pipeline.live.campaign import CampaignStage
from pipeline.live.changelog import ChangelogReader
from pipeline.live.detect import DetectStage
from pipeline.live.disk_store import on_disk
from pipeline.live.failure import exit_of
from pipeline.live.farewell import end_within
from pipeline.live.folding import Place, in_memory
from pipeline.live.health import Health, Listener
from pipeline.live.ingest import IngestStage
from pipeline.live.mismatch import build_of
from pipeline.live.models import shelf_of
from pipeline.live.outbox import Outbox
from pipeline.live.past import PastReader
from pipeline.live.preflight import require_topics
from pipeline.live.route import RouteStage
from pipeline.live.runner import Runner
from pipeline.live.stage import Stage
from pipeline.live.supervise import end_with_parent, run_children
from pipeline.settings import Settings, SettingsError
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.ingest import Ingest
from pipeline.wire.pseudonym import Pseudonyms

log = logging.getLogger(__name__)
STAGES = ("ingest", "route", "detect", "campaign")  # those that a deployment needs; drift, learn and audit may stand beside them
METADATA_MS = 10_000  # a request of a few hundred bytes; Faust's five minutes left a group without partitions for as long
# aiokafka leaves the group when nobody has fetched for so long, and comes back at the next fetch: a spare worker without partitions never
# does. Whether a worker makes progress is for /healthz to say.
POLL_INTERVAL_S = 1e6
REQUEST_TIMEOUT_S = 40.0  # the brokers' answer to anything; a session may not be longer
COLLECT_EVERY = 200_000  # new objects that may be in a cycle, instead of 700: a few fetched batches have so many


def group(settings: Settings, stage: str) -> str:
    """The consumer group of a stage."""
    return f"{settings.prefix}offhook-{stage}"


class _App(faust.App):  # type: ignore[misc]  # Faust carries no types that mypy could follow
    """Faust's app without the directories for tables, of which there are none."""

    def _create_directories(self) -> None:
        """Make nothing, so that a worker that is killed leaves nothing behind."""

    async def stop(self) -> None:
        """Stop, in time."""
        end_within()
        await super().stop()


def make_app(settings: Settings, stage: str) -> faust.App:
    """A Faust app that is told all that was learned about Faust: nothing it does on its own is left on."""
    session = float(settings.session_timeout_s)
    return _App(
        group(settings, stage),
        broker=[f"kafka://{address}" for address in settings.bootstrap],
        broker_credentials=_credentials(settings),
        broker_client_id=group(settings, stage),
        broker_session_timeout=session,
        broker_heartbeat_interval=max(1.0, session / 5),
        broker_request_timeout=max(REQUEST_TIMEOUT_S, session + 5),
        broker_rebalance_timeout=max(60.0, session),
        broker_max_poll_interval=POLL_INTERVAL_S,
        broker_commit_interval=1.0,
        broker_max_poll_records=settings.batch_records,
        consumer_max_fetch_size=settings.fetch_bytes,
        consumer_auto_offset_reset="earliest",
        # A broker that has just started may name no topics yet; the leader of the group then assigns nothing until it asks again.
        consumer_metadata_max_age_ms=METADATA_MS,
        consumer_group_instance_id=settings.instance_id or None,
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


def make_stage(settings: Settings, name: str, feeds: dict[Feed, int], health: Health, place: Place = in_memory) -> Stage:
    """Build a stage. ``feeds``: the raw topics that exist and their partitions; ``place``: where state is kept. Raises SettingsError."""
    policy = settings.policy()
    letters = DeadLetters(settings.dead_letters, settings.dead_letters_public_key())
    cached = settings.cached_accounts
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
        return RouteStage(policy, cached, settings.prefix, open_changelog, letters, health, place, settings.start_without_state)
    if name == "learn":
        from pipeline.live.learn import LearnStage

        return LearnStage(policy, SigningKey(settings.model_key()), settings.prefix, open_changelog, letters, health)
    if name == "drift":
        from pipeline.live.drift import DriftStage

        return DriftStage(settings.prefix, partial(PastReader, settings.connection(), group(settings, name)), letters, health)
    if name == "campaign":
        return CampaignStage(policy, cached, settings.prefix, open_changelog, letters, health, place, settings.start_without_state)
    detect = DetectStage(policy, cached, settings.prefix, open_changelog, letters, health, place, settings.start_without_state)
    detect.models = shelf_of(settings, name)
    return detect


class _Doors(Service):  # type: ignore[misc]  # mode carries no types that mypy could follow
    """Opens the health and metrics listener before the stage starts, and closes it last."""

    def __init__(self, health: Health, settings: Settings) -> None:
        super().__init__()
        self._listener = Listener(health, settings.http_host, settings.http_port)

    async def on_start(self) -> None:
        await self._listener.start()

    async def on_stop(self) -> None:
        await self._listener.stop()


def _run_stage(settings: Settings, name: str) -> None:
    build = build_of(settings.policy())
    metrics.BUILD_INFO.labels(build.version, build.policy_id, build.model_id).set(1)
    topics = require_topics(settings, name)
    if name == AUDIT:
        asyncio.run(run_audit(settings))
        return
    health = Health()
    feeds: dict[Feed, int] = {feed: topics[feed] for feed in FEEDS if feed in topics} if name == "ingest" else {}
    for feed in feeds:
        metrics.FEED_SUSPENDED.labels(feed).set(0)
    with on_disk(settings.data_dir) if settings.store == "disk" else nullcontext(in_memory) as place:
        _run(settings, make_stage(settings, name, feeds, health, place), health)


def _run(settings: Settings, stage: Stage, health: Health) -> None:
    uvloop.install()  # the thread that fetches makes a loop of its own
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = make_app(settings, stage.name)
    runner = Runner(app, stage, Outbox(settings.connection()), health)
    app.finalize()
    worker = faust.Worker(
        app, _Doors(health, settings), runner, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False, loglevel="INFO"
    )
    worker.spinner = None  # it would write control characters to standard output
    gc.freeze()  # what has been loaded stays, and what is folded holds no cycles: there is next to nothing to look through, so seldom
    gc.set_threshold(COLLECT_EVERY)
    try:
        worker.execute_from_commandline()
    except BaseException as e:  # Faust ends in SystemExit, or in what its own agents died of on the way out
        if runner.failure is not None:
            raise runner.failure from None
        if not isinstance(e, SystemExit):
            raise
        if e.code:
            raise (worker.crash_reason or e.__context__ or RuntimeError("Faust ended the worker and did not say why")) from None


def run_worker(settings: Settings, stages: tuple[str, ...], with_parent: bool = False) -> int:
    """Run stages until SIGTERM or SIGINT; returns the exit code, see ``pipeline.exits``.

    ``with_parent``: end with the process that started this one, whose pipe is our standard input.
    """
    logs.configure(settings)
    if len(stages) > 1:
        return run_children(stages, settings.http_port)
    if with_parent:
        end_with_parent()
    try:
        _run_stage(settings, stages[0])
    except SystemExit:  # told to while still being loaded
        raise
    except BaseException as e:  # the last word of this process, whatever ends it
        ended = exit_of(e)
        unforeseen = e if ended.code == FAILED.code else None
        log.error(
            "%s ends, exit code %d: %s: %s", stages[0], ended.code, type(e).__name__, e, exc_info=unforeseen, extra={"action": ended.action}
        )
        return ended.code
    return TOLD.code

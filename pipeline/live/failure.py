"""What does it mean for a worker that something was raised? The exit code and the sentence of ``pipeline.exits``."""

from typing import Final

from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError

from pipeline.core.errors import UnsupportedState
from pipeline.exits import BROKERS, DISK, FAILED, MODELS, SETTINGS, STATE, Exit
from pipeline.live.audit_topics import NotThere
from pipeline.live.disk_store import DiskFailed
from pipeline.live.limits import SendFailed
from pipeline.live.models import ModelMissing
from pipeline.live.preflight import NotFit
from pipeline.live.state import StateAhead, StateMissing
from pipeline.reach import Unreachable
from pipeline.settings import SettingsError

_CAUSES: Final[tuple[tuple[tuple[type[BaseException], ...], Exit], ...]] = (
    ((SettingsError,), SETTINGS),
    ((NotFit, NotThere, SendFailed, Unreachable, KafkaConnectionError, UnknownTopicOrPartitionError), BROKERS),
    ((UnsupportedState, StateAhead, StateMissing), STATE),
    ((DiskFailed,), DISK),
    ((ModelMissing,), MODELS),
)


def exit_of(error: BaseException) -> Exit:
    """How to end because of an error."""
    return next((found for causes, found in _CAUSES if isinstance(error, causes)), FAILED)

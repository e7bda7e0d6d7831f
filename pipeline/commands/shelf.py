"""What is on the shelf of models? For the commands: the topic ``models``, the key that checks it, and a model by its id or its file."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.load import BadInput, fail

if TYPE_CHECKING:
    from nacl.signing import VerifyKey

    from pipeline.core.learn.scoring import LearnedModel
    from pipeline.core.policy import Policy
    from pipeline.live.model_log import Shelved
    from pipeline.settings import Settings


def key_of(settings: "Settings") -> "VerifyKey":
    from nacl.signing import VerifyKey

    try:
        return VerifyKey(settings.model_public_key())
    except ValueError as e:
        raise BadInput(str(e)) from None


def read_shelf(settings: "Settings") -> "Shelved":
    from pipeline.live.model_log import read

    try:
        return read(settings)
    except OSError as e:
        fail(e)


def model_of(name: str, settings: "Settings", policy: "Policy", found: "Shelved | None") -> "LearnedModel":
    from pipeline.core.learn.scoring import LearnedModel
    from pipeline.core.learn.shelf import checked
    from pipeline.core.learn.snapshot import SnapshotRefused, read_snapshot

    try:
        if found is not None and name in found.snapshots:
            return LearnedModel(checked(name, found.snapshots[name], key_of(settings)), policy)
        if Path(name).is_file():
            return LearnedModel(read_snapshot(Path(name).read_bytes(), key_of(settings)), policy)
    except SnapshotRefused as e:
        raise BadInput(f"{name} is refused: {e}") from None
    raise BadInput(f"{name}: neither in the topic models nor a file; `offhook models list` names what is there")

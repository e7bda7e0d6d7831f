"""With which exit code does a command on Kafka end, and what should somebody do then? One table, printed by ``offhook worker --help``.

A supervisor reads the code, a person the last log line, which carries the sentence of the table as its action.
"""

from typing import Final, NamedTuple


class Exit(NamedTuple):
    """An exit code, what it means, and what to do."""

    code: int
    meaning: str
    action: str


TOLD: Final = Exit(0, "ended because it was told to", "nothing: what it had read is written and committed")
FAILED: Final = Exit(
    1,
    "failed on the way",
    "start it again, as the platform does: it goes on where it stopped and nothing is lost; if it fails again, act on the cause named",
)
SETTINGS: Final = Exit(2, "a setting, an option or a key file is wrong", "correct what is named; a restart alone changes nothing")
BROKERS: Final = Exit(
    3,
    "the brokers or the topics are not as a worker needs them",
    "run `offhook topics check`, which says what is wrong with the topics, and see that the brokers answer; then start it again",
)
STATE: Final = Exit(
    4,
    "the kept state cannot be used: of a newer version, damaged, missing, or not of these topics",
    "run the version that wrote it, or rebuild the state from `events` as deploy/README.md says; a restart alone changes nothing",
)
DISK: Final = Exit(
    5,
    "the store on disk cannot be written or read",
    "make room in OFFHOOK_DATA_DIR or mend the disk, then start it again: it makes the store anew from the changelog and nothing is lost",
)
MODELS: Final = Exit(
    6,
    "a model that the log puts in force is not in the topic models",
    "publish it again under its id (`offhook models publish`), from the file or the backup it came from; a restart alone changes nothing",
)
EXITS: Final = (TOLD, FAILED, SETTINGS, BROKERS, STATE, DISK, MODELS)


def lines() -> list[str]:
    """Write the table for people: code, meaning, what to do."""
    return [f"{one.code}: {one.meaning}; {one.action}." for one in EXITS]

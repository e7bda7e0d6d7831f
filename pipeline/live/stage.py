"""What is a stage to the runner? It takes the batches of its partitions, has their effects made durable, and says when to go back."""

from typing import Protocol

from faust.types.tuples import TP

from pipeline.live.batch import Admission, Batch
from pipeline.live.outbox import Outbox


class ReadAgain(Exception):
    """The batch was not handled: read its partition again from ``offset``."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"read again from offset {offset}")
        self.offset = offset


class Reader(Protocol):
    """What a stage may ask about the input."""

    def read_to(self, tp: TP) -> int | None:
        """Up to which arrival time (ms) nothing of the partition is still to be handled; None when that is not known."""

    def committed(self, tp: TP) -> int | None:
        """The offset that the consumer group has committed for the partition; None while there is none or it is not known."""

    async def rewind(self, tp: TP, offset: int) -> None:
        """Read a partition again from ``offset`` if its position is beyond; one with a batch in hand is left alone."""


class Stage(Protocol):
    """One hop of the flow. All of it runs in one event loop; the batches of one partition come one after the other."""

    name: str
    sources: tuple[str, ...]  # full topic names
    targets: tuple[str, ...]

    @property
    def admission(self) -> Admission:
        """What may be read and handed out."""

    async def start(self, outbox: Outbox, reader: Reader) -> None:
        """Called once, before the first batch."""

    async def stop(self) -> None:
        """Called once, after the last batch: end what runs on the side."""

    def assigned(self, tps: set[TP], generation: int) -> None:
        """These partitions, and no others, are ours in this generation of the group."""

    async def prepare(self, batch: Batch) -> None:
        """Wait until the batch can be handled. May be cancelled."""

    async def handle(self, batch: Batch) -> None:
        """Fold the batch and have all its effects made durable. Raises ReadAgain; any other exception ends the worker."""

    async def tick(self) -> None:
        """Called a few times a second."""

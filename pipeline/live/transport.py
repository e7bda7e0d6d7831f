"""What does a runner put in place of Faust's transport? The same, with the consumer that hands out batches, and with calls back to it."""

from collections.abc import Callable
from typing import Any

from faust.transport.drivers.aiokafka import Transport
from faust.types.tuples import TP, ConsumerMessage

from pipeline.live.batch import Admission
from pipeline.live.consumer import BatchConsumer


class BatchTransport(Transport):  # type: ignore[misc]
    """Faust's Kafka transport with the batch consumer. Its calls back come in the worker's own thread.

    ``deliver``: here is a batch, to be settled, given back or dropped. ``assigned``: these partitions are ours in this generation.
    ``drain``: what is unsettled is about to be waited for.
    """

    Consumer = BatchConsumer

    def __init__(
        self,
        app: Any,
        admission: Admission,
        deliver: Callable[[ConsumerMessage], None],
        assigned: Callable[[set[TP], int], None],
        drain: Callable[[], None],
    ) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.admission = admission
        self.deliver = deliver
        self.assigned = assigned
        self.drain = drain

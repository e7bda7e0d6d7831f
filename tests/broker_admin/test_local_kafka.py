"""The broker under the tests is itself tested: it starts, survives a kill with its data, and is gone when asked to go."""

from collections.abc import Callable

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.local_kafka import LocalKafka, answers

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]


def test_data_outlive_a_kill(local_kafka: Callable[..., LocalKafka]) -> None:
    kafka = local_kafka(properties={"auto.create.topics.enable": "true"})
    host, _, port = kafka.bootstrap.partition(":")
    with KafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        producer.send("kept", b"before").get(30)
    kafka.kill()
    assert not answers(host, int(port))
    kafka.restart()
    with KafkaConsumer(bootstrap_servers=kafka.bootstrap, consumer_timeout_ms=20_000) as consumer:
        consumer.assign([TopicPartition("kept", 0)])
        consumer.seek_to_beginning()
        assert next(consumer).value == b"before"
    folder = kafka.folder
    kafka.stop()
    assert not folder.exists()
    assert kafka.pid is None


def test_the_shared_broker_answers(broker: str) -> None:
    host, _, port = broker.partition(",")[0].rpartition(":")
    assert answers(host, int(port))

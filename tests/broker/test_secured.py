"""Does a worker run where connections are protected? TLS with a private authority and SCRAM, for Faust and for our own clients alike."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from deploy.local_kafka import LocalKafka
from pipeline.exits import BROKERS
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment
from tests.broker.keeper import last_words, launch
from tests.broker.verifier import verify
from tests.broker_admin.test_security import certificate

pytestmark = [pytest.mark.broker, pytest.mark.soak]
USER, PASSWORD = "offhook", "a password of the tests"
STAGES = ("ingest", "route", "detect")


@pytest.fixture
def secured(local_kafka: Callable[..., LocalKafka], tmp_path: Path, topic_prefix: str) -> Iterator[Deployment]:
    """Topics made and read over the open listener, workers on the one with TLS and SASL."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "wrong").write_text("another\n")
    kafka = local_kafka(
        listeners={"SECURE": "SASL_SSL"},
        properties={
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificate(tmp_path, "server")),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secure.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        },
    )
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        assert admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, "SCRAM-SHA-512", PASSWORD)]) == {USER: None}
    finally:
        admin.close()
    live = Deployment(
        kafka.bootstrap,
        topic_prefix,
        brokers=kafka.listener("SECURE"),
        security="sasl_ssl",
        sasl_user=USER,
        sasl_password_file=tmp_path / "password",
        ssl_ca_file=tmp_path / "server.crt",
    )
    live.create()
    yield live
    live.close()


def test_workers_run_over_tls_and_scram(secured: Deployment, log: list[LogRecord], tmp_path: Path) -> None:
    secured.load(log[:1000])
    secured.finish({stage: secured.start(stage) for stage in STAGES}, within_s=120)
    verify(secured)
    refused = {
        "are OFFHOOK_SASL_USER, its password and OFFHOOK_SASL_MECHANISM right?": {"sasl_password_file": tmp_path / "wrong"},
        "OFFHOOK_SSL_CA_FILE: ": {"ssl_ca_file": stranger(tmp_path)},
    }
    workers: dict[str, subprocess.Popen[str]] = {what: launch(secured, "detect", **settings) for what, settings in refused.items()}
    for what, worker in workers.items():
        said = last_words(secured, worker, BROKERS.code)
        assert what in said
        assert "Traceback" not in said
        assert "another" not in said, "a password"


def stranger(folder: Path) -> Path:
    """Make an authority that has signed nothing here."""
    certificate(folder, "stranger")
    return folder / "stranger.crt"

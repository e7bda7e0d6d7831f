"""Connections as a bank runs them: TLS with a private authority, SCRAM and PLAIN, client certificates; and what is refused."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from deploy.local_kafka import LocalKafka
from pipeline.live.dead_letters import show
from pipeline.live.topics_admin import check, create
from pipeline.reach import Unreachable
from pipeline.replay.kafka_source import read_kafka
from pipeline.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]
USER, PASSWORD = "offhook", "a password of the tests"


class Bank(NamedTuple):
    kafka: LocalKafka
    folder: Path

    def settings(self, **values: str) -> Settings:
        return Settings.from_env({f"OFFHOOK_{name.upper()}": str(value) for name, value in values.items()})


def certificate(folder: Path, name: str) -> Path:
    """Make a certificate that is its own authority: name.crt, name.key, and name.pem with both."""
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files], check=True, capture_output=True)
    both = folder / f"{name}.pem"
    both.write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    return both


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_kafka: Callable[..., LocalKafka]) -> Bank:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    server = certificate(folder, "server")
    certificate(folder, "client")
    certificate(folder, "stranger")
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "wrong").write_text("another\n")
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    kafka = module_kafka(
        listeners={"SECURE": "SASL_SSL", "MUTUAL": "SSL", "OPEN": "SASL_PLAINTEXT"},
        properties={
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(folder / "client.crt"),
            "listener.name.mutual.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            **{f"listener.name.{one}.plain.sasl.jaas.config": plain for one in ("secure", "open")},
            **{f"listener.name.{one}.scram-sha-512.sasl.jaas.config": scram for one in ("secure", "open")},
        },
    )
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        assert admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, "SCRAM-SHA-512", PASSWORD)]) == {USER: None}
    finally:
        admin.close()
    return Bank(kafka, folder)


def use(settings: Settings) -> None:
    """Do with a connection what the commands and the stages do: kafka-python for topics, aiokafka for records."""
    create(settings, partitions=1)
    assert all(report.ok for report in check(settings))

    async def send() -> None:
        async with AIOKafkaProducer(**settings.connection(), enable_idempotence=True) as producer:
            await producer.send_and_wait(settings.topic("logins"), b"{}")

    asyncio.run(send())
    assert [r.value for r in read_kafka(settings.connection(), 0, prefix=settings.prefix)] == [b"{}"]
    assert show(settings) == []


def read_all(settings: Settings) -> object:
    return list(read_kafka(settings.connection(), 0))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_sasl_over_tls(bank: Bank, mechanism: str, topic_prefix: str) -> None:
    use(
        bank.settings(
            brokers=bank.kafka.listener("SECURE"),
            prefix=topic_prefix,
            security="sasl_ssl",
            sasl_mechanism=mechanism,
            sasl_user=USER,
            sasl_password_file=bank.folder / "password",
            ssl_ca_file=bank.folder / "server.crt",
        )
    )


def test_client_certificate(bank: Bank, topic_prefix: str) -> None:
    use(
        bank.settings(
            brokers=bank.kafka.listener("MUTUAL"),
            prefix=topic_prefix,
            security="ssl",
            ssl_ca_file=bank.folder / "server.crt",
            ssl_cert_file=bank.folder / "client.crt",
            ssl_key_file=bank.folder / "client.key",
        )
    )


def test_sasl_without_tls_where_it_is_allowed(bank: Bank, topic_prefix: str) -> None:
    use(
        bank.settings(
            brokers=bank.kafka.listener("OPEN"),
            prefix=topic_prefix,
            security="sasl_plaintext",
            allow_insecure_sasl="true",
            sasl_user=USER,
            sasl_password=PASSWORD,
        )
    )


def test_a_wrong_password_is_said_without_it(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.live.topics_admin.BOOTSTRAP_MS", 3000)
    settings = bank.settings(
        brokers=bank.kafka.listener("SECURE"),
        security="sasl_ssl",
        sasl_user=USER,
        sasl_password_file=bank.folder / "wrong",
        ssl_ca_file=bank.folder / "server.crt",
    )
    for ask in (check, show, read_all):
        with pytest.raises(Unreachable, match="are OFFHOOK_SASL_USER, its password and OFFHOOK_SASL_MECHANISM right") as said:
            ask(settings)
        assert "another" not in str(said.value)


def test_an_authority_nobody_trusts_is_said(bank: Bank) -> None:
    settings = bank.settings(
        brokers=bank.kafka.listener("SECURE"),
        security="sasl_ssl",
        sasl_user=USER,
        sasl_password_file=bank.folder / "password",
        ssl_ca_file=bank.folder / "stranger.crt",
    )
    for ask in (check, show, read_all):
        with pytest.raises(Unreachable, match=r"OFFHOOK_SSL_CA_FILE: .* certificate that is not trusted"):
            ask(settings)


def test_tls_where_there_is_none_is_said(bank: Bank) -> None:
    settings = bank.settings(brokers=bank.kafka.bootstrap, security="ssl", ssl_ca_file=bank.folder / "server.crt")
    with pytest.raises(Unreachable, match=r"OFFHOOK_SECURITY: .* does not speak TLS"):
        check(settings)


def test_no_tls_where_it_is_needed_is_said(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.live.topics_admin.BOOTSTRAP_MS", 3000)
    settings = bank.settings(brokers=bank.kafka.listener("MUTUAL"))
    for ask in (check, read_all):
        with pytest.raises(Unreachable, match="OFFHOOK_SECURITY=plaintext"):
            ask(settings)


@pytest.mark.parametrize("ask", [check, show, read_all])
def test_nobody_there_is_said(ask: Callable[[Settings], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.reach.PATIENCE_S", 0.5)
    with pytest.raises(Unreachable, match=r"OFFHOOK_BROKERS=127\.0\.0\.1:1: nobody takes a connection"):
        ask(Settings(brokers="127.0.0.1:1"))

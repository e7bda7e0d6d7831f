"""Is the compose file sound: every stage, least rights, nothing published beyond loopback, settings that a worker accepts?"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployed import DEPLOY, PROJECT, document, run, settings_of

from pipeline.__main__ import main
from pipeline.live.app import AUDIT
from pipeline.live.app import STAGES as NEEDED

FILE = DEPLOY / "compose.yaml"
COMPOSE = document(FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STAGES = (*NEEDED, "drift", AUDIT)
OURS = ("topics", *STAGES)


def client() -> list[str]:
    """The compose client, as a plug-in of docker or by itself, version 2 or later."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False, timeout=30)
            if asked.returncode == 0 and not asked.stdout.startswith("1."):
                return command
    pytest.skip("docker compose is not installed (version 2 or later; no daemon is needed)")


def test_compose_client_accepts_it(tmp_path: Path) -> None:
    resolved = json.loads(run(*client(), "-f", FILE, "config", "--format", "json", "--no-interpolate"))
    assert set(resolved["services"]) == set(SERVICES)


def test_one_worker_for_each_stage_with_a_command_that_exists() -> None:
    for stage in STAGES:
        assert SERVICES[stage]["command"] == ["worker", "--stages", stage]
        assert SERVICES[stage]["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    for name in OURS:
        group, *rest = SERVICES[name]["command"]
        command = main.commands[group]
        if rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[attr-defined]  # a group, as was just asked
        command.make_context(group, list(rest))  # parses; raises on an option that does not exist


@pytest.mark.parametrize("name", OURS)
def test_worker_accepts_its_settings(name: str, tmp_path: Path) -> None:
    settings = settings_of(SERVICES[name]["environment"], tmp_path)
    (listener,) = {
        listener for listener in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",") if "kafka:" in listener
    }
    assert settings.bootstrap == [listener.removeprefix("BACKBONE://")]
    assert settings.http_host == "0.0.0.0", "or neither Prometheus nor anybody else reaches it"


@pytest.mark.parametrize("name", OURS)
def test_workers_have_the_least_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["networks"] == ["backbone"]
    assert "ports" not in service
    assert "volumes" not in service, "all state is in Kafka"
    assert service["image"] == f"offhook:{PROJECT['version']}"


def test_no_service_has_more_rights_than_it_was_given() -> None:
    for service in SERVICES.values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(service)


def test_nothing_is_published_beyond_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert COMPOSE["networks"]["backbone"] == {"internal": True}


def test_only_ingest_holds_the_pseudonym_key() -> None:
    assert [name for name in SERVICES if "pseudonym-key" in SERVICES[name].get("secrets", [])] == ["ingest"]
    assert SERVICES["ingest"]["environment"]["OFFHOOK_PSEUDONYM_KEY_FILE"] == "/run/secrets/pseudonym-key"


def test_with_learning_those_who_score_hold_the_public_key_and_learn_alone_the_other(tmp_path: Path) -> None:
    added = document(DEPLOY / "compose.learning.yaml")
    services = added["services"]
    assert set(services) == {"learn", "detect", AUDIT, "prometheus"}
    assert services["learn"]["extends"] == {"file": FILE.name, "service": "detect"}
    assert services["learn"]["command"] == ["worker", "--stages", "learn"]
    for name, variable, secret in (
        ("learn", "OFFHOOK_MODEL_KEY_FILE", "model-key"),
        ("detect", "OFFHOOK_MODEL_PUBLIC_KEY_FILE", "model-key.pub"),
        (AUDIT, "OFFHOOK_MODEL_PUBLIC_KEY_FILE", "model-key.pub"),
    ):
        assert services[name]["environment"][variable] == f"/run/secrets/{secret}"
        assert services[name]["secrets"] == [secret]
        settings_of(SERVICES.get(name, SERVICES["detect"])["environment"] | services[name]["environment"], tmp_path)
    assert all(secret == {"file": f"./secrets/{name}"} for name, secret in added["secrets"].items())


def test_compose_client_accepts_learning_too() -> None:
    both = ("-f", FILE, "-f", DEPLOY / "compose.learning.yaml")
    resolved = json.loads(run(*client(), *both, "config", "--format", "json", "--no-interpolate"))
    learn = resolved["services"]["learn"]
    assert learn["environment"].items() >= {"OFFHOOK_INSTANCE_ID": "learn-1", "OFFHOOK_MODEL_KEY_FILE": "/run/secrets/model-key"}.items()
    assert learn["read_only"] is True
    assert learn["cap_drop"] == ["ALL"]


def test_secrets_are_files_that_git_does_not_take() -> None:
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().splitlines()


def test_images_are_pinned_and_kafka_is_the_one_the_tests_use() -> None:
    for name, service in SERVICES.items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+\.\d+", tag), f"{name}: {service['image']}"
    versions = re.findall(r"<artifactId>kafka_2.13</artifactId>\s*<version>([^<]+)<", (DEPLOY / "kafka" / "pom.xml").read_text())
    assert [SERVICES["kafka"]["image"]] == [f"docker.io/apache/kafka:{v}" for v in versions]


def test_mounted_files_are_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), volume

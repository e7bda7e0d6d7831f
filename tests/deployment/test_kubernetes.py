"""Would a cluster take the manifests, and would the workers start: schemas, the restricted standard, settings, keys, probes?"""

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from deployed import DEPLOY, PROJECT, document, documents, run, settings_of, tool

from pipeline.live.app import AUDIT, REQUEST_TIMEOUT_S
from pipeline.live.app import STAGES as NEEDED
from pipeline.live.health import STALLED_S, Health, Listener

FOLDER = DEPLOY / "kubernetes"
LEARNING = FOLDER / "learning"
DRIFT, LEARN = "drift", "learn"
STAGES = (*NEEDED, DRIFT, AUDIT, LEARN)
KUSTOMIZATION = document(FOLDER / "kustomization.yaml")
BASE: list[dict[str, Any]] = [d for name in KUSTOMIZATION["resources"] for d in documents(FOLDER / name)]
OBJECTS = [*BASE, *documents(LEARNING / "learn.yaml")]
KEYS = {"OFFHOOK_PSEUDONYM_KEY_FILE": "pseudonym-key", "OFFHOOK_MODEL_KEY_FILE": "model-key"}  # of one stage each
SCHEMAS_OF = ("1.30", "1.37")  # the oldest and the newest version of Kubernetes that they are checked against


def names(objects: list[dict[str, Any]]) -> list[str]:
    return [f"{o['kind']}/{o['metadata']['name']}" for o in objects]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o for o in OBJECTS if o["kind"] == kind}


WORKERS = of_kind("StatefulSet")
PODS = {name: o["spec"]["template"]["spec"] for name, o in (WORKERS | of_kind("Job")).items()}


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["containers"]
    return dict(only)


def variables(name: str) -> dict[str, str]:
    """The environment of a pod: the ConfigMap, its own variables, and stand-ins for what the cluster fills in."""
    lines = (FOLDER / "settings.env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for variable in container(name)["env"]:
        env[variable["name"]] = variable.get("value", f"{name}-0")
    return env


@pytest.mark.parametrize("version", SCHEMAS_OF)
@pytest.mark.parametrize("manifest", OBJECTS, ids=names(OBJECTS))
def test_manifest_fits_the_schema_of_its_kind(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_does_not_exist_is_found() -> None:
    broken = copy.deepcopy(WORKERS["detect"])
    broken["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFS"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, SCHEMAS_OF[-1], strict=True)


def test_kustomize_builds_them_and_the_result_is_valid_too(tmp_path: Path) -> None:
    kubectl = tool("kubectl", "its kustomize needs no cluster")
    assert len(list(yaml.safe_load_all(run(kubectl, "kustomize", FOLDER)))) == len(BASE) + len(KUSTOMIZATION["configMapGenerator"])
    built = list(yaml.safe_load_all(run(kubectl, "kustomize", with_learning(tmp_path))))
    assert len(built) == len(OBJECTS) + len(KUSTOMIZATION["configMapGenerator"])
    image = f"{KUSTOMIZATION['images'][0]['newName']}:{PROJECT['version']}"
    for manifest in built:
        kubernetes_validate.validate(manifest, SCHEMAS_OF[-1], strict=True)
        if manifest["kind"] in ("StatefulSet", "Job"):
            pod = manifest["spec"]["template"]["spec"]
            assert [c["image"] for c in pod["containers"]] == [image]
            assert manifest["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "offhook", (
                "the network policy selects it"
            )
    monitors = list(yaml.safe_load_all(run(kubectl, "kustomize", FOLDER / "monitoring")))
    assert names(monitors) == ["ServiceMonitor/offhook"]


def with_learning(folder: Path) -> Path:
    """The manifests as an operator changes them to learn too."""
    shutil.copytree(FOLDER, folder / "kubernetes")
    file = folder / "kubernetes" / "kustomization.yaml"
    file.write_text(re.sub(r"(?m)^# (?=components: )", "", file.read_text()))
    assert document(file)["components"] == ["learning"]
    return file.parent


def test_with_learning_those_who_score_hold_the_public_key_and_learn_alone_the_other(tmp_path: Path) -> None:
    kubectl = tool("kubectl", "its kustomize needs no cluster")
    built = yaml.safe_load_all(run(kubectl, "kustomize", with_learning(tmp_path)))
    pods = {o["metadata"]["name"]: o["spec"]["template"]["spec"] for o in built if o["kind"] == "StatefulSet"}
    assert set(pods) == set(STAGES)
    for secret, holders, variable in (
        ("model-public-key", {"detect", AUDIT}, "OFFHOOK_MODEL_PUBLIC_KEY_FILE"),
        ("model-key", {LEARN}, "OFFHOOK_MODEL_KEY_FILE"),
    ):
        for name, pod in pods.items():
            (worker,) = pod["containers"]
            files = [v["value"] for v in worker["env"] if v["name"] == variable]
            held = [v["name"] for v in pod["volumes"] if v.get("secret", {}).get("secretName") == secret]
            assert bool(files) == bool(held) == (name in holders), (name, secret)
            for file in files:
                assert [m["mountPath"] for m in worker["volumeMounts"] if m["name"] == held[0]] == [str(Path(file).parent)]


def test_every_manifest_is_in_the_kustomization() -> None:
    assert {p.name for p in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    learning = document(LEARNING / "kustomization.yaml")
    assert {p.name for p in LEARNING.glob("*.yaml")} == {
        *learning["resources"],
        *(patch["path"] for patch in learning["patches"]),
        "kustomization.yaml",
    }
    for generated in KUSTOMIZATION["configMapGenerator"]:
        assert all((FOLDER / f).exists() for f in generated.get("envs", []) + generated.get("files", []))


def test_a_worker_for_each_stage() -> None:
    assert set(WORKERS) == set(STAGES)
    for stage in STAGES:
        assert container(stage)["args"] == ["worker", "--stages", stage]
    assert container("topics")["args"] == ["topics", "create"]


@pytest.mark.parametrize("name", PODS)
def test_pod_meets_the_restricted_standard(name: str) -> None:
    pod, mine = PODS[name], container(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert mine["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {next(k for k in v if k != "name") for v in pod["volumes"]} <= {"secret", "configMap", "emptyDir"}
    assert mine["resources"]["requests"].keys() == {"cpu", "memory"}
    assert mine["resources"]["limits"].keys() == {"memory"}, "a limit of processor time is throttling, and throttling is late alerts"


def test_uid_is_that_of_the_image() -> None:
    (uid,) = re.findall(r"(?m)^USER (\d+):\1$", (DEPLOY / "Dockerfile").read_text())
    for pod in PODS.values():
        assert {pod["securityContext"][k] for k in ("runAsUser", "runAsGroup", "fsGroup")} == {int(uid)}


@pytest.mark.parametrize("name", PODS)
def test_worker_accepts_its_settings(name: str, tmp_path: Path) -> None:
    settings = settings_of(variables(name), tmp_path)
    assert settings.tls
    assert settings.sasl
    mounts = {m["mountPath"] for m in container(name)["volumeMounts"]}
    files = [v for k, v in variables(name).items() if k.endswith(("_FILE", "_DIR")) and v]
    assert len(files) >= 4
    for path in files:
        assert any(path == mount or path.startswith(f"{mount}/") for mount in mounts), f"{path} is not mounted"
    if name in STAGES:
        assert settings.instance_id, "static membership: a restarted pod gets its partitions back"
        assert settings.session_timeout_s < REQUEST_TIMEOUT_S
        assert {p["containerPort"] for p in container(name)["ports"]} == {settings.http_port}


def test_instance_id_is_the_name_of_the_pod() -> None:
    for stage in STAGES:
        (source,) = [v["valueFrom"] for v in container(stage)["env"] if v["name"] == "OFFHOOK_INSTANCE_ID"]
        assert source == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_only_ingest_holds_the_pseudonym_key() -> None:
    holders = [name for name, pod in PODS.items() if any(v.get("secret", {}).get("secretName") == "pseudonym-key" for v in pod["volumes"])]
    assert holders == ["ingest"]


def test_no_secret_stands_in_a_file() -> None:
    assert "Secret" not in {o["kind"] for o in OBJECTS}
    assert "secretGenerator" not in KUSTOMIZATION
    for variable, value in variables("ingest").items():
        assert not (variable.endswith(("_PASSWORD", "_KEY")) and value), variable


def test_stages_differ_in_nothing_but_name_size_and_key() -> None:
    def plain(stage: str) -> str:
        pod = copy.deepcopy(WORKERS[stage])
        pod["spec"]["replicas"] = 0
        template = pod["spec"]["template"]["spec"]
        worker = template["containers"][0]
        worker["resources"] = {}
        worker["env"] = [v for v in worker["env"] if v["name"] not in KEYS]
        worker["volumeMounts"] = [m for m in worker["volumeMounts"] if m["name"] not in KEYS.values()]
        template["volumes"] = [v for v in template["volumes"] if v["name"] not in KEYS.values()]
        return yaml.safe_dump(pod).replace(stage, "STAGE")

    assert len({plain(stage) for stage in STAGES}) == 1


def test_probes_ask_what_the_listener_answers() -> None:
    source = Path(Listener.start.__code__.co_filename).read_text()
    served = set(re.findall(r'add_get\("(/\w+)"', source))
    for stage in STAGES:
        worker = container(stage)
        assert worker["livenessProbe"]["httpGet"]["path"] == worker["startupProbe"]["httpGet"]["path"] == "/healthz"
        assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
        annotations = WORKERS[stage]["spec"]["template"]["metadata"]["annotations"]
        assert {"/healthz", "/readyz", annotations["prometheus.io/path"]} <= served
    assert Health().alive().ok, "a worker without partitions is alive, so a spare one is not restarted"


def test_a_pod_has_time_to_drain() -> None:
    for stage in STAGES:
        # A send that the brokers do not answer ends after the request timeout; only then may the platform kill the worker.
        assert PODS[stage]["terminationGracePeriodSeconds"] > REQUEST_TIMEOUT_S
        liveness = container(stage)["livenessProbe"]
        assert liveness["periodSeconds"] * liveness["failureThreshold"] < STALLED_S, "the probe adds little to what /healthz waits for"


def test_services_and_budgets_select_their_workers() -> None:
    services, budgets = of_kind("Service"), of_kind("PodDisruptionBudget")
    for stage in STAGES:
        labels = WORKERS[stage]["spec"]["template"]["metadata"]["labels"]
        assert WORKERS[stage]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert services[WORKERS[stage]["spec"]["serviceName"]]["spec"]["selector"].items() <= labels.items()
        assert budgets[stage]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert budgets[stage]["spec"]["maxUnavailable"] == 1


def test_references_lead_somewhere() -> None:
    generated = {g["name"] for g in KUSTOMIZATION["configMapGenerator"]}
    secrets = {"kafka-credentials", *KEYS.values()}  # made by the operator
    readme = (DEPLOY / "README.md").read_text()
    for pod in PODS.values():
        assert pod["serviceAccountName"] in of_kind("ServiceAccount")
        for volume in pod["volumes"]:
            assert volume.get("configMap", {}).get("name") in generated | {None}
            assert volume.get("secret", {}).get("secretName") in secrets | {None}
    for secret in (*secrets, "model-public-key"):
        assert f"create secret generic {secret}" in readme


def test_network_policy_lets_through_the_port_of_metrics_and_of_the_brokers(tmp_path: Path) -> None:
    (policy,) = of_kind("NetworkPolicy").values()
    settings = settings_of(variables("detect"), tmp_path)
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (inward,) = policy["spec"]["ingress"]
    assert [p["port"] for p in inward["ports"]] == [settings.http_port]
    outward = {p["port"] for rule in policy["spec"]["egress"] for p in rule["ports"]}
    assert outward == {53, *(int(b.rpartition(":")[2]) for b in settings.bootstrap)}


def test_service_monitor_selects_the_services_and_names_the_component() -> None:
    (monitor,) = documents(FOLDER / "monitoring" / "servicemonitor.yaml")
    (pairs,) = KUSTOMIZATION["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pairs["pairs"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    ports = {p["name"] for service in of_kind("Service").values() for p in service["spec"]["ports"]}
    assert ports == {endpoint["port"]}
    assert {r["targetLabel"] for r in endpoint["relabelings"]} == {"job", "component"}


def test_kubeconform_accepts_what_kustomize_builds(tmp_path: Path) -> None:
    kubectl, kubeconform = tool("kubectl", "its kustomize needs no cluster"), tool("kubeconform", "a Go command")
    (tmp_path / "built.yaml").write_text(run(kubectl, "kustomize", with_learning(tmp_path)))
    # The schemas of kubernetes-validate refer to each other by addresses on a web site; kubeconform is given them as files.
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{SCHEMAS_OF[-1]}.0-local-strict"
    kinds = {o["kind"].lower() for o in OBJECTS} | {"configmap", "_definitions"}
    for file in folder.glob("*.json"):
        if file.name.split("-")[0].removesuffix(".json") in kinds:
            schema = json.loads(file.read_text().replace('"/api/_definitions.json#', '"_definitions.json#'))
            schema.pop("$id", None)
            (tmp_path / file.name).write_text(json.dumps(schema))
    location = f"{tmp_path}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    run(kubeconform, "-strict", "-kubernetes-version", f"{SCHEMAS_OF[-1]}.0", "-schema-location", location, tmp_path / "built.yaml")

"""Do alert rules and dashboard speak of metrics that exist, does each rule say what to do, and is each one tested?"""

import math
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, get_args

import promql_parser
import pytest
import yaml
from deployed import DEPLOY, document, run, tool
from promql_parser import AggregateExpr, VectorSelector

from pipeline.__main__ import main
from pipeline.core.errors import REFUSALS
from pipeline.core.events import ESSENTIAL_FEEDS, FEEDS, AccountEvent
from pipeline.core.outcome import Stage
from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.app import AUDIT, STAGES
from pipeline.live.metrics import METRICS
from pipeline.settings import SETTINGS
from pipeline.wire.topics import TOPICS

PROMETHEUS = DEPLOY / "prometheus"
LIVE = Path(metrics.__file__).parent
RULES: dict[str, dict[str, Any]] = {r["alert"]: r for g in document(PROMETHEUS / "alerts.yaml")["groups"] for r in g["rules"]}
STORIES = document(PROMETHEUS / "alerts_test.yaml")["tests"]
DASHBOARD = document(DEPLOY / "grafana" / "dashboards" / "offhook.json")
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
DRIFT, LEARN = "drift", "learn"
TARGET_LABELS = {"job", "instance", "component"}  # what the scrape adds, alike in compose and on Kubernetes
OF_THE_PROCESS = {"up", "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}
VALUES = {  # what a label may be, where the list is closed
    "feed": set(FEEDS),
    "component": {*STAGES, DRIFT, AUDIT, LEARN},
    "stage": {*STAGES, DRIFT, AUDIT, LEARN, *get_args(Stage)},
    "reason": set(REFUSALS),
    "type": {t.__struct_config__.tag for t in get_args(AccountEvent)},
    "state": {"assigned", "restored", "compared", "left_out"},
    "what": set(metrics.PARITY_WHAT),
    "cause": set(metrics.SUPPRESSION_CAUSES),
    "activity": {"create", "update", "close"},
    "change": {"placed", "ended"},
    "job": {"offhook"},
}


class Query(NamedTuple):
    where: str
    text: str


def queries() -> Iterator[Query]:
    for name, rule in RULES.items():
        yield Query(name, rule["expr"])
    for panel in PANELS:
        for target in panel.get("targets", []):
            yield Query(panel["title"], target["expr"].replace("$__rate_interval", "1m"))
    for annotation in DASHBOARD["annotations"]["list"]:
        yield Query(annotation["name"], annotation["expr"])


QUERIES = list(queries())


def nodes(text: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(text), found.append)
    return found


def declared(scraped: str) -> str:
    """The metric that a series belongs to: a histogram has three kinds of them."""
    name = re.sub(r"_(bucket|sum|count)$", "", scraped)
    return name if name in METRICS and METRICS[name].kind == "histogram" else scraped


@pytest.mark.parametrize("query", QUERIES, ids=[q.where for q in QUERIES])
def test_query_speaks_of_metrics_labels_and_values_that_exist(query: Query) -> None:
    labels: set[str] = {*TARGET_LABELS, "le"}
    for node in nodes(query.text):
        if not isinstance(node, VectorSelector):
            continue
        assert node.name is not None
        if node.name == "ALERTS":
            labels |= {"alertname", "alertstate"}
            continue
        metric = declared(node.name)
        assert metric in METRICS or metric in OF_THE_PROCESS, metric
        own = set(METRICS[metric].labels) if metric in METRICS else set()
        if metric in METRICS and METRICS[metric].kind == "histogram":
            assert node.name.endswith(("_bucket", "_sum", "_count")), f"{node.name} has no series of its own"
        labels |= own
        for matcher in node.matchers.matchers:
            assert matcher.name in own | TARGET_LABELS, f"{metric} has no label {matcher.name}"
            if matcher.name in VALUES:
                assert set(matcher.value.split("|")) <= VALUES[matcher.name]
    for node in nodes(query.text):
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= labels


def test_counters_are_read_as_rates_and_gauges_are_not() -> None:
    inside = re.compile(r"(rate|increase|changes|quantile_over_time)\($")
    for where, text in QUERIES:
        for found in re.finditer(r"offhook_\w+", text):
            metric = METRICS[declared(found.group())]
            in_rate = bool(inside.search(re.sub(r"\s", "", text[: found.start()])))
            if metric.kind == "gauge":
                assert not in_rate, f"{where}: a rate of the gauge {metric.name}"
            else:
                assert in_rate, f"{where}: {metric.name} without a rate"


# -- alert rules


@pytest.mark.parametrize("name", RULES)
def test_rule_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = RULES[name]
    assert name.startswith("OffHook")
    assert rule["labels"]["severity"] in ("critical", "warning")
    summary, runbook = rule["annotations"]["summary"], rule["annotations"]["runbook"]
    assert summary.endswith(".")
    assert len(re.findall(r"[.!?](?:\s|$)", runbook)) >= 2, "a sentence on where to look and one on what to do"


@pytest.mark.parametrize("name", RULES)
def test_rule_has_a_story_that_fires_it_and_one_that_keeps_it_quiet(name: str) -> None:
    asked = [q for story in STORIES for q in story["promql_expr_test"] if re.search(rf'["|]{name}["|]', q["expr"])]
    assert any(q["exp_samples"] for q in asked), "no story fires it"
    assert any(not q["exp_samples"] for q in asked), "no story keeps it quiet"


def test_stories_use_series_that_workers_have() -> None:
    for story in STORIES:
        for series in story["input_series"]:
            (node,) = [n for n in nodes(series["series"]) if isinstance(n, VectorSelector)]
            metric = declared(str(node.name))
            own = set(METRICS[metric].labels) if metric in METRICS else set()
            assert metric in METRICS or metric in OF_THE_PROCESS
            labels = {m.name for m in node.matchers.matchers}
            assert labels <= own | TARGET_LABELS | {"le"}
            assert own <= labels, f"{series['series']}: every label of the metric"


def test_promtool_accepts_the_configuration_and_the_stories_pass() -> None:
    promtool = tool("promtool", "the Debian package prometheus has it")
    run(promtool, "check", "config", PROMETHEUS / "prometheus.yaml")
    run(promtool, "test", "rules", PROMETHEUS / "alerts_test.yaml")


def test_promtool_parses_every_query_of_the_dashboard(tmp_path: Path) -> None:
    promtool = tool("promtool", "the Debian package prometheus has it")
    rules = [{"record": f"offhook:panel:{i}", "expr": q.text} for i, q in enumerate(QUERIES)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", file)


def test_scraped_are_the_workers_of_the_compose_file() -> None:
    (job,) = document(PROMETHEUS / "prometheus.yaml")["scrape_configs"]
    assert job["job_name"] == "offhook"
    services = document(DEPLOY / "compose.yaml")["services"]
    for target in job["static_configs"]:
        (address,) = target["targets"]
        stage, port = address.split(":")
        assert target["labels"] == {"component": stage}
        assert services[stage]["environment"]["OFFHOOK_HTTP_PORT"] == port
    assert [t["labels"]["component"] for t in job["static_configs"]] == [*STAGES, DRIFT, AUDIT]
    (target,) = document(PROMETHEUS / "targets" / "learning.yaml")
    assert target == {"targets": [f"learn:{services['detect']['environment']['OFFHOOK_HTTP_PORT']}"], "labels": {"component": LEARN}}
    (found,) = job["file_sd_configs"]
    (mount,) = document(DEPLOY / "compose.learning.yaml")["services"]["prometheus"]["volumes"]
    assert mount.split(":")[1] == f"/etc/prometheus/{found['files'][0].replace('*', 'learning')}"


def test_memory_alarm_knows_the_limits_of_the_manifests() -> None:
    unit = {"Gi": 2**30, "Mi": 2**20}
    expr = RULES["OffHookMemory"]["expr"]
    bounds = {}
    for line in expr.removeprefix("or ").split("\n"):
        if match := re.search(r'component=~?"([a-z|]+)"} > (.*)$', line):
            for stage in match[1].split("|"):
                bounds[stage] = math.prod(float(f) if "^" not in f else 2.0 ** int(f.split("^")[1]) for f in match[2].split(" * "))
    for stage in (*STAGES, DRIFT, AUDIT, LEARN):
        folder = DEPLOY / "kubernetes" / ("learning" if stage == LEARN else "")
        (workers, *_) = yaml.safe_load_all((folder / f"{stage}.yaml").read_text())
        limit = workers["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        assert bounds[stage] == pytest.approx(0.85 * int(limit[:-2]) * unit[limit[-2:]])


def test_bounds_that_repeat_the_policy_agree_with_it() -> None:
    policy = Policy()
    assert f"> {policy.feeds.silent_s}" in RULES["OffHookTelephonySilent"]["expr"]
    essential = "|".join(f for f in FEEDS if f in ESSENTIAL_FEEDS)
    for name in ("OffHookEssentialFeedSuspended", "OffHookFeedSuspended", "OffHookEssentialFeedSilent"):
        assert essential in RULES[name]["expr"]
    assert "half of the last 200" in (DEPLOY / "grafana/dashboards/offhook.json").read_text()
    assert (policy.feeds.dead_letter_share, policy.feeds.dead_letter_window) == (0.5, 200)


def test_commands_that_runbooks_name_exist() -> None:
    texts = [rule["annotations"]["runbook"] for rule in RULES.values()]
    named = {m for text in texts for m in re.findall(r"offhook ((?:dead-letters|topics|quarantine|models) \w+|replay|audit)", text)}
    assert named
    for words in named:
        command: Any = main
        for word in words.split():
            command = command.commands[word]
    settings = {m for text in texts for m in re.findall(r"OFFHOOK_\w+", text)}
    assert settings <= {s.variable for s in SETTINGS}


def test_no_count_of_dead_letters_stands_at_nothing_so_that_a_new_one_has_risen() -> None:
    """Two rules take a count that was not there an hour ago for one that has risen: a worker's first records may be the unreadable ones."""
    source = "".join(file.read_text() for file in LIVE.glob("*.py"))
    made = re.findall(r"\bDEAD_LETTERS\.labels\([^()]*\)(.*)", source)
    assert len(made) == source.count("DEAD_LETTERS.") > 0
    assert all(re.fullmatch(r"\.inc\(\w*\)", after) for after in made)


# -- dashboard


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {declared(str(n.name)) for panel in PANELS for t in panel.get("targets", []) for n in selectors(t["expr"])}
    assert not METRICS.keys() - shown


def selectors(text: str) -> list[VectorSelector]:
    return [n for n in nodes(text.replace("$__rate_interval", "1m")) if isinstance(n, VectorSelector)]


def test_dashboard_reads_from_protection_down_to_the_machines() -> None:
    rows = [p["title"] for p in PANELS if p["type"] == "row"]
    assert rows == [
        "Is it protecting?",
        "What it caught, and how early",
        "Is it keeping up?",
        "What could not be read",
        "Feeds",
        "Machines and state",
        "Models that learn",
    ]
    tops = [p["gridPos"]["y"] for p in PANELS]
    assert tops == sorted(tops), "panels stand in the order in which they are read"


def test_panels_fit_the_grid_and_do_not_cover_each_other() -> None:
    places = [p["gridPos"] for p in PANELS]
    for p in places:
        assert p["x"] >= 0
        assert p["x"] + p["w"] <= 24
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, (a, b)
    assert len({p["id"] for p in PANELS}) == len(PANELS)


@pytest.mark.parametrize("panel", [p for p in PANELS if "targets" in p], ids=lambda p: str(p["title"]))
def test_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "table"
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_grafana_is_provisioned_with_what_the_dashboard_names() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = document(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["query"], variable["current"]["value"]) == (source["type"], source["uid"])
    compose = document(DEPLOY / "compose.yaml")
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    interval = document(PROMETHEUS / "prometheus.yaml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    (provider,) = document(provisioning / "dashboards" / "offhook.yaml")["providers"]
    mounts = [v.split(":")[1] for v in compose["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts


def test_no_topic_is_named_that_does_not_exist() -> None:
    for query in QUERIES:
        for node in nodes(query.text):
            if isinstance(node, VectorSelector):
                for matcher in node.matchers.matchers:
                    assert matcher.name != "topic" or matcher.value in TOPICS, "and a prefix would hide it"


# -- workers


@pytest.mark.parametrize("name", METRICS)
def test_metric_is_set_by_a_worker(name: str) -> None:
    (constant,) = [word for word, value in vars(metrics).items() if getattr(value, "_name", None) == name.removesuffix("_total")]
    elsewhere = [f for f in LIVE.glob("*.py") if f.name != "metrics.py" and re.search(rf"\b{constant}\b", f.read_text())]
    counted_here = len(re.findall(rf"\b{constant}\b", (LIVE / "metrics.py").read_text())) > 1  # declared, and used
    assert elsewhere or counted_here

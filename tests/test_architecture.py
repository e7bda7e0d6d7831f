"""Does the code keep to the layout? Imports point inward, the core and the wire are pure, and no module outgrows its job."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipeline"
MODULES = sorted(p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*.py"))
PURE = [m for m in MODULES if m.startswith(("pipeline/core/", "pipeline/wire/"))]
ENTRY = ("pipeline/__main__.py", "pipeline/commands/")  # the outermost ring: may import everything

MOST_LINES = 300
LONGER = {  # module: how many lines it may have, because...
    "pipeline/core/detector.py": 420,  # the fold is one thing, and is read from top to bottom
    "pipeline/settings.py": 340,  # a quarter of it is the list of settings
}
MAY_OPEN_FILES = ("pipeline/wire/log.py", "pipeline/wire/schemas")
RING = {"core": 0, "wire": 1, "settings": 2, "exits": 2, "reach": 3, "live": 4, "replay": 4, "simulate": 4}
ONLY_IN = {  # third-party package -> where it may be imported
    "faust": ("pipeline/live/",),
    "mode": ("pipeline/live/",),
    "prometheus_client": ("pipeline/live/",),
    "rocksdict": ("pipeline/live/disk_store.py",),
    "river": ("pipeline/core/learn/",),
    "aiokafka": ("pipeline/live/", "pipeline/replay/kafka_source.py"),
    "kafka": ("pipeline/live/", "pipeline/replay/kafka_source.py"),
    "rich": ("pipeline/replay/report.py", "pipeline/replay/command.py", *ENTRY),
    "click": ENTRY,
}
IMPURE_MODULES = {"time", "random", "secrets", "os", "socket", "logging", "subprocess", "threading", "asyncio", "tempfile", "shutil"}
CLOCKS_AND_DICE = {"now", "utcnow", "today", "uuid1", "uuid4", "getenv", "urandom"}
FILE_CALLS = {"open", "read_text", "write_text", "read_bytes", "write_bytes"}
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EMPTY_NAMES = {"utils", "util", "common", "base", "manager", "helper", "helpers", "misc"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def imports(module: str) -> set[str]:
    """Full names of everything a module imports, imports inside functions included."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def area(name: str) -> str | None:
    """The part of the package that a dotted name belongs to: core, wire, live..."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else None


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(ENTRY) and m != "pipeline/__init__.py"])
def test_imports_point_inward(module: str) -> None:
    here = area(module.removesuffix(".py").replace("/", "."))
    assert here in RING, f"{module}: not a part of the layout that this test knows"
    for name in imports(module):
        there = area(name)
        if there is not None and there != here:
            assert there in RING, f"{module} imports {name}: only the command line may"
            assert RING[there] < RING[here], f"{module} imports {name}: imports point inward, siblings do not know each other"


def test_every_ring_exists() -> None:
    assert {area(m.removesuffix(".py").replace("/", ".")) for m in MODULES} >= set(RING)


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_stay_where_they_belong(module: str) -> None:
    for name in imports(module):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or module.startswith(allowed), f"{module} imports {name}; only {allowed} may"


@pytest.mark.parametrize("module", PURE)
def test_core_and_wire_are_pure(module: str) -> None:
    impure = {name for name in imports(module) if name.split(".")[0] in IMPURE_MODULES}
    assert not impure, f"{module} imports {impure}"
    for node in ast.walk(tree(module)):
        where = f"{module}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute):
            assert node.attr != "environ", f"{where}: the environment"
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in CLOCKS_AND_DICE, f"{where}: {called}()"
            assert called != "hash", f"{where}: hash() differs from run to run"
            assert called != "print", f"{where}: print()"
            assert called not in FILE_CALLS or module.startswith(MAY_OPEN_FILES), f"{where}: opens a file"


def test_a_worker_loads_what_only_learning_needs_when_it_is_needed() -> None:
    """River and SciPy take 110 MB and a second or more to load, in each worker; scoring by a learned model needs neither."""
    look = "import sys, pipeline.live.app; print(*sorted({'river', 'scipy', 'numpy'} & sys.modules.keys()))"
    said = subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert said == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_pickles(module: str) -> None:
    assert not {name for name in imports(module) if name.split(".")[0] in PICKLERS}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_answers_and_stays_small(module: str) -> None:
    text = (ROOT / module).read_text()
    docstring = ast.get_docstring(tree(module))
    assert docstring, f"{module} has no docstring"
    assert len(docstring.splitlines()[0]) >= 20, f"{module}: {docstring!r} says too little"
    lines = len(text.splitlines())
    assert lines <= LONGER.get(module, MOST_LINES), f"{module} has {lines} lines; make it a folder of the same name"
    assert not EMPTY_NAMES & set(Path(module).with_suffix("").parts), f"{module}: a name that says nothing"

"""Worlds that several tests look at."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.simulate.run import simulate
from tests.simulate.world import World

Maker = Callable[..., World]


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    def make(**options: Any) -> World:
        out = tmp_path_factory.mktemp("world")
        arguments: dict[str, Any] = {"seed": 11, "accounts": 300, "hours": 6, "noise": False} | options
        return World(out, simulate(arguments.pop("seed"), arguments.pop("accounts"), arguments.pop("hours"), out, **arguments))

    return make


@pytest.fixture(scope="session")
def stories(make_world: Maker) -> World:
    """Many attacks and look-alikes, every carrier taking part."""
    return make_world(accounts=2500, hours=16, prior=0.8, lookalikes=0.6, coverage=1.0)


@pytest.fixture(scope="session")
def ordinary(make_world: Maker) -> World:
    """Ordinary days only."""
    return make_world(seed=5, accounts=2500, hours=24, prior=0.0, lookalikes=0.0, coverage=1.0, history_days=0)

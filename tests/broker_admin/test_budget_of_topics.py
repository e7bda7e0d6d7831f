"""Does ``offhook budget --kafka`` propose from the topics what it proposes from the files of a replay?"""

import asyncio
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from pipeline.__main__ import main
from pipeline.settings import Settings
from tests.broker_admin.test_kafka_source import make, send
from tests.broker_admin.test_kafka_source import settings as settings  # noqa: PLC0414  # a fixture
from tests.replay.test_budget import decision, disposition, proposal_of

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]
SINCE = datetime.fromtimestamp(1_700_000_000, UTC).isoformat()  # when the first record of ``send`` has arrived


def test_it_is_chosen_on_the_topics_as_on_files(settings: Settings) -> None:
    days = [[0.9, 0.8], [0.7, 0.6], [0.95, 0.85]]
    said = [decision(day, number, peak) for day, peaks in enumerate(days) for number, peak in enumerate(peaks)]

    async def bank() -> None:
        await make(settings, "decisions", 2)
        await make(settings, "dispositions", 1)
        await send(settings, "decisions", [(n % 2, n, value) for n, value in enumerate(said)])
        await send(settings, "dispositions", [(0, 9, disposition(0, "true_positive", otp_id="otp-2-0"))])

    asyncio.run(bank())
    env = {"OFFHOOK_POLICY_FILE": None, "OFFHOOK_PREFIX": settings.prefix}
    command = ["budget", "--kafka", settings.brokers, "--since", SINCE, "--alerts-per-day", "1"]
    found = CliRunner().invoke(main, command, env=env)
    assert found.exit_code == 0, found.output
    assert proposal_of(found.output) == pytest.approx(0.800001)
    assert "1 of 1 frauds" in found.output

"""What does OffHook do, in one minute? A simulated morning of a bank, the detector over it, and what it caught."""

import shlex
import tomllib
from pathlib import Path
from time import perf_counter

from pipeline.core.policy import policy_from
from pipeline.replay.command import Request, run_replay
from pipeline.replay.report import console, count
from pipeline.simulate.run import simulate
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.log import read_log
from pipeline.wire.pseudonym import Pseudonyms

HISTORY_DAYS = 14
ATTACKS = 1 / 8  # attacks per challenge of an honest customer; at a bank one in 1,000 to 100,000 (domain.md)
LOOKALIKES = 1 / 5  # share of the other challenges that look like an attack and are none


def run_demo(seed: int, accounts: int, hours: float, out: Path) -> None:
    """Simulate, replay and report. Writes the log and its truth into ``out``, and what the detector said into ``out/said``."""
    screen, progress = console(), console(stderr=True)
    screen.print(
        f"Simulating {hours:g} hours of a bank with {count(accounts, 'account')}, after {HISTORY_DAYS} days of history (seed {seed})."
    )
    screen.print("Attacks are far more frequent than at a bank, so that there is something to see.")
    began = perf_counter()
    with progress.status("simulating") as status:
        simulated = simulate(
            seed, accounts, hours, out, history_days=HISTORY_DAYS, prior=ATTACKS, lookalikes=LOOKALIKES,
            progress=lambda _, text: status.update(f"simulating: {text}"),
        )  # fmt: skip
    log, truth = out / simulated.log, out / simulated.truth
    screen.print(f"{count(simulated.records, 'record')} in {perf_counter() - began:.1f} s. Replaying them through the detector.\n")
    request = Request(
        out=out / "said",
        policy=policy_from(tomllib.loads((out / simulated.policy).read_text())),
        pseudonyms=Pseudonyms.for_demo(),
        dead_letters=DeadLetters("reference"),
        truth=truth,
        expected=simulated.records,
        stories=False,
    )
    run_replay(read_log(log), request, screen, progress)
    said = shlex.quote(str(request.out))
    screen.print(f"{'':13} {log}, {truth} (what went in, and the truth)")
    screen.print(f"next          .venv/bin/offhook score {said} --truth {shlex.quote(str(truth))} (by kind of attack and look-alike)")
    screen.print(f"              head -1 {said}/alerts.jsonl | python3 -m json.tool (an alert in full)")

"""What can an operator ask for? The command line, ``offhook``."""

import click

from pipeline.commands.audit import audit
from pipeline.commands.baselines import baselines
from pipeline.commands.budget import budget
from pipeline.commands.evaluate import evaluate
from pipeline.commands.features import features
from pipeline.commands.fit import fit
from pipeline.commands.inspect import policy, pseudonyms, schemas, settings
from pipeline.commands.kafka import topics, worker
from pipeline.commands.letters import dead_letters
from pipeline.commands.logs import demo, replay, score, simulate
from pipeline.commands.metrics import metrics
from pipeline.commands.model_benchmark import model_benchmark
from pipeline.commands.models import models
from pipeline.commands.placebo import placebo
from pipeline.commands.quarantine import quarantine
from pipeline.commands.snooze import snooze


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="offhook", prog_name="offhook")
def main() -> None:
    """Catch OTP-bot account takeovers while the victim is still on the phone.

    Start with `offhook demo`. `offhook replay` asks what would have been said about a log; `offhook worker` runs on Kafka.
    """


COMMANDS = (
    demo,
    simulate,
    replay,
    score,
    evaluate,
    fit,
    budget,
    baselines,
    placebo,
    model_benchmark,
    models,
    worker,
    audit,
    topics,
    dead_letters,
    quarantine,
    snooze,
    metrics,
    features,
    pseudonyms,
    policy,
    settings,
    schemas,
)
for command in COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()

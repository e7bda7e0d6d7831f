"""What happened, or would have? The commands on logs: demo, simulate, replay, score."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.load import FILE, FOLDER, PSEUDONYMS, BadInput, fail, instant, load_policy, load_pseudonyms, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.core.policy import Policy
    from pipeline.replay.models import Dump
    from pipeline.wire.log import LogRecord

FEEDS = ("logins", "otp-dispatches", "telephony", "otp-entries", "phone-links", "account-changes", "dispositions", "snoozes")


@click.command()
@click.option("--seed", default=7, show_default=True, help="Which morning: the same seed gives the same bytes.")
@click.option("--accounts", default=1500, show_default=True, type=click.IntRange(min=1), help="Customers of the simulated bank.")
@click.option("--hours", default=4.0, show_default=True, type=click.FloatRange(min=0.1), help="How long the morning lasts.")
@click.option("--out", default=Path("out/demo"), show_default=True, type=FOLDER, help="Folder for the log, the truth and the outputs.")
def demo(seed: int, accounts: int, hours: float, out: Path) -> None:
    """Simulate a morning of a bank, run the detector over it, and show what it caught. Needs no broker."""
    from pipeline.commands.demo import run_demo

    run_demo(seed=seed, accounts=accounts, hours=hours, out=out)


@click.command()
@click.option("--seed", default=7, show_default=True, help="The same seed and options give the same bytes.")
@click.option("--accounts", default=1500, show_default=True, type=click.IntRange(min=1), help="Customers of the simulated bank.")
@click.option("--hours", default=4.0, show_default=True, type=click.FloatRange(min=0.01), help="How long the log proper lasts.")
@click.option("--out", default=Path("out/simulated"), show_default=True, type=FOLDER, help="Folder for log, truth.jsonl and about.json.")
@click.option(
    "--history-days", default=14, show_default=True, type=click.IntRange(min=0), help="Ordinary days before it, to learn habits from."
)
@click.option("--start", metavar="TIME", help="When the log proper begins (RFC 3339; default: a Monday morning).")
@click.option("--prior", type=click.FloatRange(0, 1), help="Attacks per challenge of an honest customer.")
@click.option("--lookalikes", type=click.FloatRange(0, 1), help="Share of the other challenges that look like an attack and are none.")
@click.option("--story", "stories", multiple=True, metavar="NAME", help="Only this story (V1 to V14, B1 to B18). Repeatable.")
@click.option(
    "--feeds",
    type=click.Choice(["full", "no-telephony", "probe", "app"]),
    default="full",
    show_default=True,
    help="What the bank gets to see of calls: all, nothing, answers of a carrier's API, the call state of its own app.",
)
@click.option(
    "--telephony",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of recorded calls and messages that are the background (Copenhagen Networks Study).",
)
@click.option("--coverage", type=click.FloatRange(0, 1), help="Share of lines whose carrier tells the bank, with full feeds.")
@click.option(
    "--family", type=click.Choice(["a", "b", "c"]), default="a", show_default=True, help="Parameters of the world; b and c are held out."
)
@click.option("--emerging", type=click.FloatRange(min=0), metavar="DAYS", help="An attack nobody has seen (V15) begins so many days in.")
@click.option(
    "--wave", type=click.FloatRange(min=0), metavar="HOURS", help="So many hours in, one customer in twenty is attacked in 20 minutes."
)
@click.option("--rush", type=click.FloatRange(min=0), metavar="HOURS", help="So many hours in, one in ten logs in again in 20 minutes.")
@click.option("--unseen", is_flag=True, help="Also attacks that no weight, rule, feature or threshold was chosen for (V16 to V18).")
@click.option("--noise/--no-noise", default=True, show_default=True, help="Duplicates, disorder, late and malformed records.")
@click.option("--compress", type=click.Choice(["gz", "zst"]), help="Compress the log.")
def simulate(seed: int, accounts: int, hours: float, out: Path, history_days: int, start: str | None, prior: float | None,
             lookalikes: float | None, stories: tuple[str, ...], feeds: str, telephony: Path | None, coverage: float | None,
             family: str, emerging: float | None, wave: float | None, rush: float | None, unseen: bool, noise: bool,
             compress: str | None) -> None:  # fmt: skip
    """Write a believable log of a bank with attacks and look-alikes, and the truth beside it."""
    from datetime import UTC, datetime

    from pipeline.replay.report import console, count
    from pipeline.simulate.run import START
    from pipeline.simulate.run import simulate as run

    screen = console(stderr=True)
    with screen.status("simulating") as status:
        try:
            made = run(
                seed, accounts, hours, out,
                start=datetime.fromtimestamp(instant(start, "--start") / 1000, UTC) if start else START,
                history_days=history_days, prior=prior, lookalikes=lookalikes, stories=stories or None,
                feeds=feeds, telephony=telephony, coverage=coverage, family=family, emerging_day=emerging, wave_hour=wave, rush_hour=rush,  # type: ignore[arg-type]  # click has checked
                unseen=unseen, noise=noise, compress=compress or "",  # type: ignore[arg-type]  # as above
                progress=lambda _, text: status.update(f"simulating: {text}"),
            )  # fmt: skip
        except ValueError as e:
            raise BadInput(str(e)) from None
        except OSError as e:
            fail(e)
    click.echo(f"{out / made.log}: {count(made.records, 'record')} of {count(made.accounts, 'account')}")
    labels = ", ".join(f"{n:,} {label}" for label, n in sorted(made.labels.items()))
    click.echo(f"{out / made.truth}: {count(made.challenges, 'challenge')} in the log proper ({labels})")
    click.echo(f"next: offhook replay --demo-key --policy {out / made.policy} {out / made.log} --truth {out / made.truth}")


@click.command()
@click.argument("logs", nargs=-1, type=FILE, metavar="LOG...")
@click.option("--out", default=Path("out/replay"), show_default=True, type=FOLDER, help="Folder for what comes out; replaced.")
@click.option("--policy", "policy_file", type=FILE, help="TOML file that overrides parts of the policy (see `offhook policy show`).")
@PSEUDONYMS
@click.option("--demo-key", is_flag=True, help="Use the well-known key: for simulated logs, whose numbers belong to nobody.")
@click.option("--truth", type=FILE, help="Score the run against this truth.jsonl.")
@click.option("--without", multiple=True, type=click.Choice(FEEDS), help="Leave a feed out, as if the institution had none. Repeatable.")
@click.option("--strict", is_flag=True, help="Stop at the first record that cannot be read, with file and line; exit code 2.")
@click.option("--drain/--no-drain", default=True, show_default=True, help="After the last record let time go on until all deadlines fired.")
@click.option("--dead-letters", type=click.Choice(["reference", "plain", "sealed"]), default="reference", show_default=True,
              help="What a dead letter keeps of the record: a reference, all of it, or all of it encrypted to --public-key.")  # fmt: skip
@click.option("--public-key", type=FILE, help="Public key of the operator (see `offhook dead-letters keygen`).")
@click.option("--prefix", default="", help="Prefix of the topic names in the log.")
@click.option("--kafka", metavar="HOST:PORT", help="Read the topics of a Kafka instead of files; commits nothing.")
@click.option("--since", metavar="TIME", help="With --kafka: from this arrival on (RFC 3339).")
@click.option("--until", metavar="TIME", help="With --kafka: up to this arrival (RFC 3339), or to the end.")
@click.option("--events", is_flag=True, help="With --kafka: read the recorded `events` topic, not the raw topics.")
@click.option(
    "--models", "models_file", type=FILE, help="A dump of the topic `models`: the snapshots that a recorded `events` topic activates."
)
@click.option("--model-key", type=FILE, help="Public key to check them with; without it OFFHOOK_MODEL_PUBLIC_KEY_FILE is read.")
@click.option("--quiet", "-q", is_flag=True, help="No progress and no table, only the summary.")
def replay(logs: tuple[Path, ...], out: Path, policy_file: Path | None, key_file: Path | None, demo_key: bool, truth: Path | None,
           without: tuple[str, ...], strict: bool, drain: bool, dead_letters: str, public_key: Path | None, prefix: str,
           kafka: str | None, since: str | None, until: str | None, events: bool, models_file: Path | None, model_key: Path | None,
           quiet: bool) -> None:  # fmt: skip
    """Ask what would have been said about a log.

    LOG is a dump in the form of `kcat -C -J` (.jsonl, .jsonl.gz, .jsonl.zst): raw topics, or a recorded `events` topic. Several are merged
    by arrival. Writes alerts.jsonl, decisions.jsonl, holds.jsonl, dead-letters.jsonl and summary.json; the same log gives the same bytes.
    """
    from pipeline.core.errors import DeadLetterFlood
    from pipeline.replay.command import Request, run_replay
    from pipeline.replay.report import console
    from pipeline.replay.run import BadRecord, MixedLog
    from pipeline.settings import key_bytes
    from pipeline.wire.dead_letter import DeadLetters
    from pipeline.wire.log import InvalidLog, merge_logs

    if bool(logs) == bool(kafka):
        raise click.UsageError("name the logs to read, or --kafka HOST:PORT --since TIME")
    if (dead_letters == "sealed") != (public_key is not None):
        raise click.UsageError("--dead-letters sealed and --public-key FILE belong together")
    if demo_key and key_file:
        raise click.UsageError("--demo-key or --pseudonyms, not both")
    policy = load_policy(policy_file)
    if models_file or (kafka and events and (model_key or load_settings().model_public_key_file)):
        snapshots = merge_logs([models_file]) if models_file else kafka_models(str(kafka), prefix)
        models = load_models(snapshots, policy, model_key)
    else:
        models = None
    request = Request(
        out=out,
        models=models,
        policy=policy,
        pseudonyms=load_pseudonyms(key_file, demo_key),
        dead_letters=DeadLetters(dead_letters, key_bytes(public_key.read_text(), str(public_key)) if public_key else None),  # type: ignore[arg-type]
        truth=truth,
        without=without,  # type: ignore[arg-type]  # click has checked the names
        strict=strict,
        drain=drain,
        prefix=prefix,
        quiet=quiet,
    )
    try:
        records = kafka_records(kafka, since, until, prefix, events) if kafka else merge_logs(logs)
        run_replay(records, request, console(), console(stderr=True))
    except (BadRecord, InvalidLog, MixedLog) as e:
        raise BadInput(str(e)) from None
    except LookupError as e:
        raise BadInput(f"{e.args[0]}; name a dump of the topic `models` with --models") from None
    except (DeadLetterFlood, ValueError, OSError) as e:
        fail(e)


def load_models(snapshots: "Iterator[LogRecord]", policy: "Policy", key_file: Path | None) -> "Dump":
    """The snapshots of a dump of `models`, checked with the public key of a file or of the environment."""
    from nacl.signing import VerifyKey

    from pipeline.replay.models import Dump
    from pipeline.settings import key_bytes

    try:
        key = key_bytes(key_file.read_text(), str(key_file)) if key_file else load_settings().model_public_key()
        return Dump(policy, VerifyKey(key), snapshots)
    except ValueError as e:
        raise BadInput(str(e)) from None


def kafka_models(bootstrap: str, prefix: str) -> "Iterator[LogRecord]":
    """All that stands in the topic `models` of a Kafka."""
    import msgspec

    from pipeline.replay.kafka_source import read_kafka

    return read_kafka(msgspec.structs.replace(load_settings(), brokers=bootstrap).connection(), 0, None, ("models",), prefix)


def kafka_records(bootstrap: str, since: str | None, until: str | None, prefix: str, events: bool) -> "Iterator[LogRecord]":
    """The records of a Kafka that arrived in a span of time; how to connect, apart from the address, is in OFFHOOK_*."""
    import msgspec

    from pipeline.replay.kafka_source import read_kafka

    if since is None:
        raise click.UsageError("--kafka needs --since TIME (RFC 3339, such as 2026-11-22T08:00:00Z)")
    connection = msgspec.structs.replace(load_settings(), brokers=bootstrap).connection()
    span = (instant(since, "--since"), instant(until, "--until") if until else None)
    return read_kafka(connection, *span, ("events",) if events else FEEDS, prefix)


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--truth", required=True, type=FILE, help="truth.jsonl of the simulated log.")
@click.option("--json", "as_json", is_flag=True, help="Print the score as JSON.")
def score(out: Path, truth: Path, as_json: bool) -> None:
    """Compare what a run said (OUT, the folder of a replay) with what really happened.

    Unit: one challenge. False alarms are counted per 10,000 benign challenges; shares come with 95 % Wilson intervals.
    """
    import msgspec

    from pipeline.replay.cases import read_cases
    from pipeline.replay.report import console, score_lines, score_table
    from pipeline.replay.score import read_truth
    from pipeline.replay.score import score as compare

    try:
        result = compare(read_truth(truth), read_cases(out))
    except FileNotFoundError as e:
        raise BadInput(f"{e.filename}: not there; is {out} the folder of a replay?") from None
    except ValueError as e:
        raise BadInput(str(e)) from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
        return
    screen = console()
    screen.print(score_table(result))
    for line in score_lines(result):
        screen.print(line)

"""What was normal for everybody on past days? The command ``offhook baselines``."""

from pathlib import Path

import click

from pipeline.commands.load import FILE, NEW_FILE, BadInput, fail, load_policy, telling


@click.command()
@click.option(
    "--log", "logs", multiple=True, required=True, type=FILE, help="A log of raw topics. Repeatable: several are merged by arrival."
)
@click.option("--policy", "policy_file", type=FILE, help="TOML file that overrides parts of the policy (see `offhook policy show`).")
@click.option("--prefix", default="", help="Prefix of the topic names in the log.")
@click.option("--out", type=NEW_FILE, help="Write the section to this file instead of printing it.")
def baselines(logs: tuple[Path, ...], policy_file: Path | None, prefix: str, out: Path | None) -> None:
    """Propose what is normal for everybody, from past days of a LOG: the section [baselines] of a policy file.

    How long honest entries take on each channel, which share of logins each user agent has, and how many customers are sent codes at each
    hour of the week: the features `entry_latency_channel_z`, `user_agent_rarity` and `code_surge_z` are measured against it, and missing
    without it. Entries and logins that dispositions in the log call attacks or tests are left out: name the log of `dispositions` too.
    Some weeks are enough, for codes by hour three; do it again when apps and browsers have changed, or the clocks have.

    Needs no key: user agents appear as the digests that events carry, and only those of many accounts. Nothing changes by itself: measure
    the section with `offhook evaluate --policy`, then put it into the policy.
    """
    from pipeline.replay.baselines import baselines_of, policy_text
    from pipeline.wire.log import InvalidLog

    policy = load_policy(policy_file)
    try:
        with telling() as watch:
            found = baselines_of(logs, policy, prefix, watch)
    except (InvalidLog, ValueError) as e:
        raise BadInput(str(e)) from None
    except OSError as e:
        fail(e)
    text = policy_text(found)
    if out is None:
        click.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    for channel, normal in found.baselines.entry_latency.items():
        entries, accounts = found.entries[channel]
        click.echo(f"{channel:13} median {normal.median_s:g} s, spread {normal.spread:g}; {entries:,} entries of {accounts:,} accounts")
    click.echo(f"user agents   {len(found.logins):,} listed, {sum(found.logins.values()):,} of {found.all_logins:,} logins")
    codes = found.baselines.codes
    if codes is not None:
        least, most = min(map(min, codes.accounts)), max(map(max, codes.accounts))
        click.echo(
            f"codes         {least:g} to {most:g} accounts in five minutes, spread {codes.spread:g}; {codes.share:.4g} of them is counted"
        )
    for reason in found.left:
        click.echo(f"left out      {reason}")
    click.echo(f"file          {out}; nothing is in force until OFFHOOK_POLICY_FILE names a policy with it")

"""Which known causes need not be heard of? The commands to snooze one for an account, to see what is snoozed, and to end it."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.load import BadInput, fail, load_settings

if TYPE_CHECKING:
    from pipeline.wire.records import Snooze


@click.group()
def snooze() -> None:
    """Have findings about a known cause written, but not heard: they do not page and hold no code.

    SCOPE is a rule (R05), a reason as alerts name it (sim_swapped), `model` for whatever the score says of the account, or the id of one
    model. A finding that reaches the threshold without the snoozed cause is heard all the same.
    """


@snooze.command()
@click.argument("account")
@click.argument("scope")
@click.option("--days", required=True, type=click.FloatRange(min=0, min_open=True), help="For how long; the policy bounds it.")
@click.option("--reason", required=True, help="Why, in words; without numbers of phones or codes.")
@click.option("--who", required=True, help="Who says so: an identifier of a colleague, not a name.")
def add(account: str, scope: str, days: float, reason: str, who: str) -> None:
    """Snooze SCOPE for ACCOUNT, from now on; codes that are open now included."""
    from pipeline.core.suppression import known_scope

    if not known_scope(scope):
        raise BadInput(f"{scope}: no such rule or reason; say the id of a rule (R05), a reason as alerts name it, or model")
    settings = load_settings()
    try:
        policy = settings.policy()
    except ValueError as e:
        raise BadInput(str(e)) from None
    from pipeline.core.snooze import most_days

    most = most_days(scope, policy.snoozes)
    if days > most:
        raise BadInput(f"--days {days:g}: the policy lets a snooze of {scope} last {most} days at most")
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    said = _write(account_id=account, scope=scope, status="in_force", occurred_at=now, expires_at=now + timedelta(days=days), reason=reason,
                  who=who)  # fmt: skip
    click.echo(f"snoozed {_line(said)}")


@snooze.command()
@click.argument("account")
@click.argument("scope")
@click.option("--reason", default="", help="Why it is to be heard again.")
@click.option("--who", required=True, help="Who says so: an identifier of a colleague, not a name.")
def end(account: str, scope: str, reason: str, who: str) -> None:
    """Let SCOPE be heard again for ACCOUNT, also about codes that are open now."""
    from datetime import UTC, datetime

    said = _write(account_id=account, scope=scope, status="ended", occurred_at=datetime.now(UTC), reason=reason, who=who)
    click.echo(f"ended {said.account_id} {said.scope}")


@snooze.command("list")
@click.argument("account", required=False)
def list_(account: str | None) -> None:
    """List what is snoozed now: account, scope, until when, who and why; of ACCOUNT alone, if one is named."""
    from datetime import UTC, datetime

    from pipeline.live.snoozes import in_force

    try:
        found = in_force(load_settings(), datetime.now(UTC))
    except OSError as e:
        fail(e)
    found = [one for one in found if account in (None, one.account_id)]
    for one in found:
        click.echo(_line(one))
    if not found:
        click.echo("nothing is snoozed")


def _write(**fields: Any) -> "Snooze":
    """Check a record as ingest will, and write it."""
    import uuid

    import msgspec

    from pipeline.live.snoozes import add as write
    from pipeline.wire.records import Snooze

    try:
        said = msgspec.convert(msgspec.to_builtins(Snooze(event_id=f"snooze-{uuid.uuid4().hex}", **fields)), Snooze)
    except msgspec.ValidationError as e:
        field = str(e).rpartition("$.")[2].rstrip("`")
        rule = {
            "reason": "words only, 200 characters at most, no numbers of phones or codes",
            "who": "1 to 64 characters of A-Za-z0-9._:-",
            "account_id": "1 to 64 characters of A-Za-z0-9._:-",
            "scope": "1 to 64 characters of A-Za-z0-9._:-",
        }
        raise BadInput(f"{field}: {rule.get(field, 'not what the contract allows')}") from None
    try:
        write(load_settings(), said)
    except OSError as e:
        fail(e)
    return said


def _line(one: "Snooze") -> str:
    until = f"{one.expires_at:%Y-%m-%d %H:%M} UTC" if one.expires_at is not None else "-"
    return f"{one.account_id} {one.scope} until {until} by {one.who or '-'}: {one.reason}"

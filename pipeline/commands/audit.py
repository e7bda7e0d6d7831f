"""Did the workers write what the log says? The command that folds a sample of accounts again and compares."""

import re
import sys
from typing import TYPE_CHECKING

import click

from pipeline.commands.load import load_settings

if TYPE_CHECKING:
    from pipeline.live.audit import Report


class Accounts(click.ParamType):
    """A share of the accounts, as a percentage."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read ``1%``, ``0.5 %`` or ``100%`` as a number up to 1."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(value).strip())
        share = float(found[1]) / 100 if found else 0.0
        if not 0 < share <= 1:
            self.fail("write a percentage above 0 and up to 100, such as 1%", param, ctx)
        return share


@click.command()
@click.option("--accounts", default="1%", show_default=True, type=Accounts(), metavar="SHARE", help="How many accounts, chosen by a hash.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--values", is_flag=True, help="Name the accounts that differ, which are personal data.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def audit(accounts: float, as_json: bool, values: bool, quiet: bool) -> None:
    """Fold a sample of accounts again from `events`, and compare state, decisions and alerts with what the workers wrote.

    Reads the Kafka of OFFHOOK_BROKERS, commits and changes nothing, and may run beside the workers. All of `events` that is kept is
    read. Accounts that differ and are older than it, and those that another policy or version has folded, are left out and counted.

    Exit code 0 when all that was compared is the same, 1 on a mismatch, 2 for a wrong option or setting, 3 when topics or brokers are not
    there, 4 for state that this version cannot read.
    """
    settings = load_settings()
    import msgspec

    from pipeline.live.audit import audit_once
    from pipeline.live.failure import exit_of
    from pipeline.replay.report import console

    screen = console(stderr=True)
    try:
        with screen.status("reading state") as status:
            if quiet:
                status.stop()
            found = audit_once(
                settings, accounts, lambda what, number: status.update(f"reading {what}" + (f": {number:,} records" if number else ""))
            )
    except Exception as e:
        ended = exit_of(e)
        if ended.code == 1 and not isinstance(e, OSError):
            raise
        raise Ended(f"{e}\n-> {ended.action}", ended.code) from None
    if not values:
        found = msgspec.structs.replace(found, mismatches=tuple(msgspec.structs.replace(m, account_id="") for m in found.mismatches))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _say(found)
    sys.exit(int(bool(found.mismatches)))


class Ended(click.ClickException):
    """The audit could not be made; the exit code is that of the table."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


LEFT_OUT = {
    "cut": "they differ, but their history begins before `events` does",
    "other_build": "folded in part under another policy, model or version",
    "bug": "our own code fails on one of their events; see the dead letters with reason bug",
    "in_flight": "being written at that moment",
    "flood": "silenced in a flood of findings, which a sample cannot know of",
}


def _say(found: "Report") -> None:
    from rich.table import Table

    from pipeline.replay.report import console, count

    screen = console()
    screen.print(f"{count(found.accounts, 'account')} ({found.share:.4g} of all) in {count(found.records, 'record')} of events")
    for why, number in found.skipped.items():
        screen.print(f"{number:>9,} left out: {LEFT_OUT[why]}")
    screen.print(f"{found.compared:>9,} compared: " + (", ".join(f"{n:,} {what}" for what, n in found.checked.items()) or "nothing"))
    if not found.mismatches:
        said = "No mismatch: live wrote what the log says." if found.checked else "Nothing could be compared: take a larger share."
        screen.print(said)
        return
    table = Table("what", "problem", "where", "account")
    for one in found.mismatches:
        table.add_row(one.what, one.problem, one.place, one.account_id or "(--values)")
    screen.print(table)
    screen.print(
        f"{count(len(found.mismatches), 'account')} where live differs. If detect was last deployed or repaired, roll that back; rebuild"
        " the state from events as deploy/README.md says; send the places above and the version to those who maintain OffHook."
    )

"""`crossfade cutover`, `rollback`, `complete`, and what goes with them: `invalidate`, `recover`, `audit`."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from proxy.control import Moved
from proxy.control.commands.connection import connected
from proxy.control.commands.plan import tell_step
from proxy.control.commands.screen import Grid, show, show_json

if TYPE_CHECKING:
    from proxy.control.client import ControlClient

force_option = click.option("--force", metavar="REASON", default="", help="Pass gates that may be; the log keeps why.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only show the gates and what would happen.")


@click.command()
@click.argument("route")
@force_option
@_dry_run
@connected
def cutover(client: ControlClient, route: str, force: str, dry_run: bool) -> None:
    """Make the target of ROUTE the primary. The source goes on receiving every write."""
    if dry_run:
        _show_step(client, route, "cutover")
        return
    _tell(client.cutover(route, **asked(force=force)))
    click.echo(f"the way back: crossfade rollback {route}")


@click.command()
@click.argument("route")
@click.option("--now", is_flag=True, help="In an emergency: at once; keys that may be behind are listed.")
@force_option
@_dry_run
@connected
def rollback(client: ControlClient, route: str, now: bool, force: str, dry_run: bool) -> None:
    """Undo the phase of ROUTE: primary, reads or dual writes go back to the source."""
    if dry_run and now:
        keys = next(one.keys for one in client.status().routes if one.name == route)
        unclean = keys.lag + keys.parked
        click.echo(f"would make the source of {route} the primary at once; {unclean:,} keys are not clean now")
        return
    if dry_run:
        _show_step(client, route, "rollback")
        return
    moved = client.rollback(route, **asked(force=force, now=now))
    _tell(moved)
    if now:
        listed = moved.file or f"the list could not be written; crossfade recover {route} --list"
        click.echo(f"{moved.behind:,} keys may be behind on the {moved.primary}: {listed}")
        if moved.aliases_behind:
            click.echo(f"aliases changed on the other store may be missing on the {moved.primary}: make them again")
        click.echo(f"when the other store is back with its data: crossfade recover {route}")
        click.echo(f"if its data is lost: crossfade recover {route} --discard REASON")


@click.command()
@click.argument("route")
@force_option
@_dry_run
@connected
def complete(client: ControlClient, route: str, force: str, dry_run: bool) -> None:
    """End the migration of ROUTE: the source receives no more writes. There is no way back."""
    if dry_run:
        _show_step(client, route, "complete")
        return
    _tell(client.complete(route, **asked(force=force)))
    click.echo("how the application leaves the proxy: docs/leaving.md")


@click.command()
@click.argument("route")
@click.option("--reason", required=True, help="What was done to the store; kept in the audit log.")
@connected
def invalidate(client: ControlClient, route: str, reason: str) -> None:
    """Say that a store of ROUTE was restored or changed by hand: everything is swept."""
    now = client.invalidate(route, **asked(force=reason))
    click.echo(f"{len(now.collections)} collections of {route} are swept; reads stay with the {now.primary} until then")


@click.command()
@click.argument("route")
@click.option("--list", "only_list", is_flag=True, help="Only write the list of keys that may be behind once more.")
@click.option("--discard", metavar="REASON", default="", help="Its data is lost: give up what only it had.")
@connected
def recover(client: ControlClient, route: str, only_list: bool, discard: str) -> None:
    """After `rollback --now`: the old primary is back; copy what only it has."""
    if only_list:
        listed = client.list_behind(route)
        click.echo(f"{listed.behind:,} keys may be behind on the {listed.primary}: {listed.file}")
        return
    found = client.recover(route, **asked(force=discard, discard=bool(discard)))
    if discard:
        click.echo(f"{found.discarded:,} keys were given up; the other store is swept now")
        return
    click.echo(f"{found.copied:,} points were copied, {found.left:,} could not be copied now")
    if found.absent:
        click.echo(f"{len(found.absent):,} keys are not on the old primary, and were left as they are:")
        for key in found.absent:
            click.echo(f"  {key}")
    if found.conflicts:
        click.echo(f"{len(found.conflicts):,} keys were written in part since; compare, and write them whole:")
        for key in found.conflicts:
            click.echo(f"  {key}")
    if found.left or found.conflicts:
        raise SystemExit(1)


@click.command()
@click.argument("route")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
@connected
def audit(client: ControlClient, route: str, as_json: bool) -> None:
    """Who moved ROUTE, when, how, and why."""
    found = client.audit(route)
    if as_json:
        show_json(found)
    elif found:
        rows = [(time.strftime("%F %T", time.localtime(one.at)), one.who, one.what, one.why) for one in found]
        show([Grid("", ("when", "who", "what", "why"), rows)])
    else:
        click.echo(f"nobody has moved {route} yet")


def asked(**given: Any) -> dict[str, Any]:
    return {"who": f"{getpass.getuser()}@{socket.gethostname()}", **given}


def _tell(moved: Moved) -> None:
    held = f"; writes were held for {1000 * moved.held_seconds:.0f} ms" if moved.held_seconds else ""
    click.echo(f"{moved.route} is in phase {moved.phase}; the {moved.primary} answers for writes{held}")


def _show_step(client: ControlClient, route: str, command: str) -> None:
    found = client.plan(route)
    for step in (found.onward, found.back):
        if step is not None and step.command == command:
            tell_step(route, "would do", step)
            if step.closed:
                raise SystemExit(1)
            return
    click.echo(f"{route} is in phase {found.phase}, from which there is no {command}")
    raise SystemExit(1)


COMMANDS: tuple[Callable[..., Any], ...] = (cutover, rollback, complete, invalidate, recover, audit)

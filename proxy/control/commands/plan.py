"""`crossfade plan`: the next step of a migration, with its gates, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control import Plan, StepInfo
from proxy.control.commands.connection import connected
from proxy.control.commands.screen import Grid, show, show_json

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
@connected
def plan(client: ControlClient, route: str, as_json: bool) -> None:
    """Show what comes next for ROUTE, what has to be so before, and the way back."""
    found = client.plan(route)
    if as_json:
        show_json(found)
    else:
        tell(found)


def tell(found: Plan) -> None:
    click.echo(f"{found.route} is in phase {found.phase}; the {found.primary} answers for writes")
    for words, step in (("next", found.onward), ("back", found.back)):
        click.echo()
        if step is None:
            click.echo(f"{words}: nothing" if words == "next" else "back: there is no way back")
        else:
            tell_step(found.route, words, step)


def tell_step(route: str, words: str, step: StepInfo) -> None:
    """A step, and its gates as they are."""
    percent = " PERCENT" if step.command == "weight" else ""
    click.echo(f"{words}: crossfade {step.command} {route}{percent}   ({step.start} -> {step.end})")
    click.echo(f"  {step.does}")
    if step.gates:
        rows = [(gate.name, "open" if gate.open else "CLOSED", gate.value, gate.next) for gate in step.gates]
        show([Grid("", ("gate", "state", "now", "to open it"), rows)])

"""`crossfade weight`: how much of the reads the target answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control import RouteStatus
from proxy.control.commands.connection import connected
from proxy.control.commands.screen import percent

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@click.argument("share", metavar="[PERCENT]", type=click.FloatRange(0, 100), required=False)
@click.option("--write", is_flag=True, help="Put it into the configuration file instead of overriding that.")
@click.option("--clear", is_flag=True, help="Take the override back: the file's weight holds again.")
@connected
def weight(client: ControlClient, route: str, share: float | None, write: bool, clear: bool) -> None:
    """Send PERCENT of the reads of ROUTE to the target; 0 takes them back."""
    if clear == (share is not None) or (clear and write):
        raise click.UsageError("give either PERCENT (and maybe --write) or --clear")
    if share is None:
        _tell(client.clear_weight(route))
    else:
        _tell(client.set_weight(route, share, write))


def _tell(now: RouteStatus) -> None:
    click.echo(f"{now.name}: {percent(now.weight.effective)} of the reads go to {now.target}")
    if now.weight.override is not None and now.weight.override != now.weight.wish:
        click.echo(
            f"the file says {percent(now.weight.wish)}; this override ends with the next edit of the route, --write "
            "puts the weight into the file"
        )
    if now.weight.effective and not now.readable and now.primary == "source":
        click.echo(f"for now they stay where they are: {now.target} cannot be read yet (crossfade status)")

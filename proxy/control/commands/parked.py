"""`crossfade parked`: the points that the target cannot hold, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected
from proxy.control.commands.screen import Grid, show, show_json, size

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
@connected
def parked(client: ControlClient, route: str, limit: int, as_json: bool) -> None:
    """List points of ROUTE that the target cannot hold. Reads of them go to the primary."""
    found = client.parked(route, limit)
    if as_json:
        show_json(found)
    elif found:
        rows = [(one.collection, str(one.id), one.reason, size(one.size_bytes)) for one in found]
        show([Grid("", ("collection", "id", "reason", ">size"), rows)])
    else:
        click.echo(f"no point of {route} is parked")

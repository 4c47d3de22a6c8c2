"""`crossfade mirror`: from now on every write also reaches the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected
from proxy.control.commands.moves import asked, force_option

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@force_option
@connected
def mirror(client: ControlClient, route: str, force: str) -> None:
    """Start dual writes of ROUTE: the first step of a migration."""
    now = client.mirror(route, **asked(force=force))
    click.echo(f"{now.name} is {now.phase}: writes go to {now.source} and are copied to {now.target}")
    click.echo(f"next: crossfade backfill {now.name}")

"""`crossfade reload`: reads the configuration now, as saving the file does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@connected
def reload(client: ControlClient) -> None:
    """Read the configuration again. A file that is not valid changes nothing."""
    changes = client.reload().changes
    click.echo("\n".join(changes) if changes else "nothing has changed")

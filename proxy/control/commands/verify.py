"""`crossfade verify`: compares the two stores, point by point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected
from proxy.control.commands.waiting import job_options, run

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@click.option("--repair", is_flag=True, help="Mark what differs to be copied again.")
@job_options
@connected
def verify(client: ControlClient, route: str, wait: bool, restart: bool, repair: bool) -> None:
    """Compare the stores of ROUTE, while the application goes on. Exits with 1 if they differ."""
    job = run(client, "verify", route, wait, restart, repair=repair)
    if not wait:
        return
    different, unchecked = job.result.get("different", 0), job.result.get("unchecked", 0)
    if unchecked:
        click.echo(f"{unchecked:,} points could not be checked: they kept changing, or a store did not answer")
    if different:
        step = "verify it again in a moment" if repair else f"crossfade verify {route} --repair copies them again"
        click.echo(f"{different:,} points differ; {step}")
    elif not unchecked:
        click.echo("the stores are equal")
    if different or unchecked:
        raise SystemExit(1)

"""`crossfade shadow`: where the two stores answered differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control import Disagreement
from proxy.control.commands.connection import connected
from proxy.control.commands.screen import Grid, ago, show, show_json

if TYPE_CHECKING:
    from proxy.control.client import ControlClient

_IDS_SHOWN = 5


@click.command()
@click.argument("route")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
@connected
def shadow(client: ControlClient, route: str, as_json: bool) -> None:
    """Show the figures of the shadow reads of ROUTE, and the worst disagreements."""
    report = client.shadow(route)
    if as_json:
        show_json(report)
        return
    figures = report.figures
    if not figures.compared:
        click.echo(f"no shadow read of {route} was compared yet; set `shadow.sample_percent` of the route")
        return
    click.echo(
        f"{figures.compared:,} compared, mean overlap {figures.overlap or 0.0:.4f}; {figures.shed:,} shed, "
        f"{figures.unsettled:,} unsettled, {figures.errors:,} errors"
    )
    columns = ("collection", "operation", ">overlap", "missing", "unexpected", ">score diff", ">latency ratio", "when")
    show([Grid("Worst", columns, [_row(one) for one in report.worst])])


def _row(one: Disagreement) -> tuple[str, ...]:
    return (
        one.collection,
        f"{one.operation} {one.limit}",
        f"{one.overlap:.2f}",
        _ids(one.missing),
        _ids(one.unexpected),
        f"{one.score_difference:.1e}",
        f"{one.latency_ratio:.1f}",
        ago(one.at),
    )


def _ids(ids: tuple[int | str, ...]) -> str:
    more = f", +{len(ids) - _IDS_SHOWN}" if len(ids) > _IDS_SHOWN else ""
    return ", ".join(map(str, ids[:_IDS_SHOWN])) + more

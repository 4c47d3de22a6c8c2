"""`crossfade init`: a first configuration, made from what the source says of itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import click

from proxy.control.commands.connection import DEFAULT_CONFIG
from proxy.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from proxy.stores import Store

_PATIENCE_SECONDS = 10.0
_LOWEST_UUID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Found:
    """What the source holds; `problem` is why it could not be asked."""

    collections: Sequence[str] | None = None
    ids: Literal["integer", "text"] = "integer"
    problem: str = ""


@click.command()
@click.option("--from", "source", required=True, metavar="URL", help="The database to leave: qdrant://host:6333")
@click.option("--to", "target", required=True, metavar="URL", help="The database to move to: milvus://host:19530")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(source: str, target: str, output: Path, force: bool) -> None:
    """Write a first configuration, with a route for each collection of the source.

    Keys are not part of the URLs: the file refers to variables such as $QDRANT_API_KEY, and so does this command.
    """
    from proxy.config import starter

    if output.exists() and not force:
        raise ConfigError(f"{output} is there already; --force replaces it, -o FILE writes another")
    found = asyncio.run(_ask(starter(source, target)))
    text = starter(source, target, found.collections, ids=found.ids)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; choose another place with -o FILE") from error
    _tell(output, found)


def _tell(output: Path, found: Found) -> None:
    if found.problem:
        click.echo(f"the source could not be asked: {found.problem}", err=True)
        click.echo(
            "so there is one route for all its collections, and the target's ids are integers; see `ids`", err=True
        )
    else:
        names = ", ".join(found.collections or ()) or "none"
        click.echo(f"collections of the source: {names}; ids: {found.ids}")
    click.echo(f"wrote {output}\nnext: crossfade serve -c {output}")


async def _ask(draft: str) -> Found:
    """The source of the draft configuration, asked for its collections and the kind of its ids."""
    from proxy.config import parse
    from proxy.stores.opening import open_store

    config = parse(draft, os.environ, lambda name: Path(name).read_text())
    store = open_store(config.stores[config.routes[0].source])
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            collections = sorted(await store.collections())
            others = [name for name in collections if await _has_other_ids(store, name)]
    except TimeoutError:
        return Found(problem=f"no answer within {_PATIENCE_SECONDS:g} s")
    except StoreError as error:
        return Found(problem=str(error))
    finally:
        with suppress(StoreError):
            await store.close()
    return Found(collections, "text" if others else "integer")


async def _has_other_ids(store: Store, collection: str) -> bool:
    """Whether some id is not an integer. Integers come first in the order of ids, so one look behind them tells."""
    from proxy.model import IDS_ONLY

    page = await store.scan(collection, _LOWEST_UUID, 1, selection=IDS_ONLY)
    return bool(page.points)

"""The command line. `serve` and `emulate` start a process; `init`, `check` and `schema` are about the file; all the
others ask a running proxy, see proxy/control/commands.

Exit codes: 0 done, 1 refused or failed (or verify found differences), 2 wrong usage. What fails says what to do next.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import click

from proxy.control.commands.backfill import backfill
from proxy.control.commands.connection import config_option, read_text
from proxy.control.commands.init import init
from proxy.control.commands.jobs import job, jobs
from proxy.control.commands.mirror import mirror
from proxy.control.commands.moves import audit, complete, cutover, invalidate, recover, rollback
from proxy.control.commands.parked import parked
from proxy.control.commands.plan import plan
from proxy.control.commands.reload import reload
from proxy.control.commands.shadow import shadow
from proxy.control.commands.status import status
from proxy.control.commands.sweep import sweep
from proxy.control.commands.verify import verify
from proxy.control.commands.weight import weight
from proxy.errors import ConfigError, CrossfadeError


class _Commands(click.Group):
    """Commands in the order of a migration; what this program refuses ends with 1 and its message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CrossfadeError as error:
            click.echo(f"crossfade: {str(error).replace(chr(10), chr(10) + '  ')}", err=True)
            ctx.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output left; click ends quietly
                raise
            click.echo(f"crossfade: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Move a live application from one vector database to another."""


main.add_command(init)


@main.command()
@config_option
@click.option(
    "--take-over", is_flag=True, help="Take the sockets of the proxy that serves now, which ends; no request is lost."
)
@click.option("--worker", type=int, hidden=True, help="Number of this process among the workers of another.")
@click.option("--channel", type=int, hidden=True, help="Descriptor of a socket to the process that started it.")
def serve(config: Path, take_over: bool, worker: int | None, channel: int | None) -> None:
    """Run the proxy."""
    import uvloop

    from proxy import app
    from proxy.heap import keep_what_is_freed

    keep_what_is_freed()
    if worker is None or channel is None:
        uvloop.run(app.serve(config, take_over))
    else:
        uvloop.run(app.work(config, worker, channel))


@main.command()
@config_option
def check(config: Path) -> None:
    """Read the configuration and list every mistake with its line."""
    from proxy.config import parse

    text = read_text(config)
    try:
        parsed = parse(text, os.environ, lambda name: Path(name).read_text())
    except ConfigError as error:
        raise ConfigError(f"{config} is not valid:\n{error}") from error
    routes = ", ".join(route.name for route in parsed.routes) or "none"
    click.echo(f"{config} is valid; routes: {routes}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    import json

    from proxy.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


for _command in (
    *(status, plan, mirror, backfill, verify, weight, shadow, cutover, rollback, complete),
    *(parked, sweep, invalidate, recover, audit, jobs, job, reload),
):
    main.add_command(_command)


@main.group()
def emulate() -> None:
    """Run a stand-in for a vendor's server, for tests and demos."""


@emulate.command()
@click.option("--path", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory of the data.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--rest-port", type=click.IntRange(0, 65535), default=6333, show_default=True, help="REST port.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=6334, show_default=True, help="gRPC port.")
@click.option("--api-key", envvar="CROSSFADE_EMULATOR_API_KEY", help="Key that clients must show; none if not given.")
def qdrant(path: Path, host: str, rest_port: int, grpc_port: int, api_key: str | None) -> None:
    """Qdrant's own engine behind a REST and gRPC front of ours. Not a Qdrant server."""
    import uvloop

    from proxy import emulator

    uvloop.run(emulator.serve(host, rest_port, grpc_port, path, api_key))


@main.command()
def version() -> None:
    """Print the version, with "+compiled" if this is the compiled form."""
    from proxy.release import release

    click.echo(f"crossfade {release()}")

"""Where a command finds the running proxy: the configuration file says it, or --control and --token do."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.control.client import ControlClient

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = "crossfade.yaml"

config_option = click.option(
    "-c",
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_CONFIG,
    envvar="CROSSFADE_CONFIG",
    show_default=True,
    help="The configuration file ($CROSSFADE_CONFIG).",
)


def connected(command: F) -> Callable[..., Any]:
    """Gives the command a ControlClient as its first argument, and the options that say where the proxy is."""

    @config_option
    @click.option("--control", envvar="CROSSFADE_CONTROL", help="URL of the control API ($CROSSFADE_CONTROL).")
    @click.option("--token", envvar="CROSSFADE_TOKEN", help="Its token ($CROSSFADE_TOKEN).")
    @functools.wraps(command)
    def wrapper(*args: Any, config: Path, control: str | None, token: str | None, **kwargs: Any) -> Any:
        return command(find(config, control, token), *args, **kwargs)

    return wrapper


def find(config: Path, control: str | None, token: str | None) -> ControlClient:
    """Raises ConfigError if neither the options nor the file say enough."""
    from proxy.control.client import ControlClient

    if control and token:
        return ControlClient(control, token)
    address, found = _from_file(config, token)
    return ControlClient(control or f"http://{address}", found)


def _from_file(path: Path, given_token: str | None) -> tuple[str, str]:
    """(host:port, token). Only what concerns the control API has to be right in the file, and the variables of the
    rest (the stores' keys) need not be set here."""
    from pydantic import ValidationError

    from proxy.config import Config, Control
    from proxy.config.document import read
    from proxy.control import token as token_file

    document = read(read_text(path), os.environ, lambda name: Path(name).read_text())
    wrong = [problem for problem in document.problems if not problem.path or problem.path[0] in ("control", "data_dir")]
    if wrong:
        raise ConfigError("\n".join(map(str, wrong)))
    try:
        control = Control.model_validate(document.values.get("control") or {})
    except ValidationError as error:
        raise ConfigError(f"the section `control` of {path} is not valid; see `crossfade check -c {path}`") from error
    if control.address.endswith(":0"):
        raise ConfigError(f"`control.address` in {path} takes any free port; say which with --control URL")
    if given_token:
        return control.address, given_token
    if control.token is not None:
        return control.address, control.token.get_secret_value()
    data_dir = document.values.get("data_dir") or Config.model_fields["data_dir"].default
    return control.address, token_file.load(Path(str(data_dir)))


def read_text(path: Path) -> str:
    """The configuration file's text. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"cannot read {path}: {reason}; name the configuration with -c FILE or $CROSSFADE_CONFIG, or write a first "
            "one with `crossfade init`"
        ) from error

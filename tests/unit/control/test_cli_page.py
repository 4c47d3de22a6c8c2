"""docs/cli.md names every command and every option that there is, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from proxy.cli import main

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def rows() -> dict[str, str]:
    """command -> its whole usage as the tables give it (several rows of one command joined)."""
    found: dict[str, str] = {}
    names = sorted((name for name, _ in commands(main)), key=len, reverse=True)
    for usage in re.findall(r"^\| `([a-z][^`]*)`", PAGE, re.MULTILINE):
        name = next((name for name in names if usage == name or usage.startswith(f"{name} ")), usage)
        found[name] = f"{found.get(name, '')} {usage}".strip()
    return found


def test_every_command_is_on_the_page() -> None:
    assert set(rows()) == {name for name, _ in commands(main)}


def test_every_option_is_on_the_page() -> None:
    for name, command in commands(main):
        usage = rows()[name]
        for parameter in command.params:
            of_all = parameter.name in ("config", "control", "token")
            if isinstance(parameter, click.Option) and not of_all and not parameter.hidden:
                assert any(option in re.split(r"[][ /]", usage) for option in parameter.opts), (
                    f"{name}: {parameter.opts}"
                )


def test_no_option_is_on_the_page_that_does_not_exist() -> None:
    for name, command in commands(main):
        known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        for option in re.findall(r"--[a-z-]+", rows()[name]):
            assert option in known, f"{name}: {option}"


def test_every_command_explains_itself() -> None:
    for name, command in commands(main):
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name}: {parameter.opts}"

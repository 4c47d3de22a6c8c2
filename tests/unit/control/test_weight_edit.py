"""Editing the weight changes the weight and nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from proxy.control import NotKnown
from proxy.control.weight_edit import with_weight, write_weight
from proxy.errors import ConfigError, GateClosed

FILE = """\
version: 1  # the format
routes:
  - name: docs   # our documents
    source: qdrant
    reads:
      sticky: client
      weight: 5      # raised on Monday
    shadow: {sample_percent: 10}

  # the pictures come later
  - {name: pictures, source: qdrant, reads: {weight: 0, sticky: none}}
  - name: notes
    reads:
      sticky: client
  - {name: flow, reads: {}}
  - name: bare
    source: qdrant
"""


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in after.splitlines() if line not in before.splitlines()]


@pytest.mark.parametrize(
    ("route", "lines"),
    [
        ("docs", ["      weight: 25      # raised on Monday"]),
        ("pictures", ["  - {name: pictures, source: qdrant, reads: {weight: 25, sticky: none}}"]),
        ("notes", ["      weight: 25"]),
        ("flow", ["  - {name: flow, reads: {weight: 25}}"]),
        ("bare", ["  - reads: {weight: 25}", "    name: bare"]),
    ],
)
def test_one_line_changes(route: str, lines: list[str]) -> None:
    assert changed_lines(FILE, with_weight(FILE, route, 25)) == lines


def test_a_fraction_of_a_percent_is_kept() -> None:
    assert "weight: 0.5 " in with_weight(FILE, "docs", 0.5)


def test_carriage_returns_and_other_alphabets_are_kept(tmp_path: Path) -> None:
    text = FILE.replace("\n", "\r\n").replace("our documents", "наши документы")
    path = tmp_path / "crossfade.yaml"
    path.write_bytes(text.encode())
    write_weight(path, "docs", 25)
    assert path.read_bytes().decode() == text.replace("weight: 5 ", "weight: 25 ")


def test_an_unknown_route_is_named_with_those_there_are() -> None:
    with pytest.raises(NotKnown, match="no route `dox`; known: docs, pictures, notes, flow, bare"):
        with_weight(FILE, "dox", 25)


@pytest.mark.parametrize(
    "text",
    [
        "routes:\n  - name: docs\n    reads: &r {weight: 5}\n  - name: other\n    reads: *r\n",
        "routes:\n  - name: docs\n    reads: {weight: &w 5}\n  - name: other\n    reads: {weight: *w}\n",
        "routes:\n  - name: docs\n    reads:\n",
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="by hand"):
        with_weight(text, "docs", 25)


def test_a_broken_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "crossfade.yaml"
    path.write_text("routes: [\n")
    with pytest.raises(ConfigError, match="not YAML"):
        write_weight(path, "docs", 25)
    assert path.read_text() == "routes: [\n"


def test_the_file_is_replaced_through_its_symlink_with_its_mode(tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text(FILE)
    real.chmod(0o640)
    link = tmp_path / "crossfade.yaml"
    link.symlink_to(real.name)
    write_weight(link, "docs", 25)
    assert link.is_symlink()
    assert real.read_text() == with_weight(FILE, "docs", 25)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["crossfade.yaml", "real.yaml"]


def test_a_file_that_cannot_be_written_is_a_closed_gate(tmp_path: Path) -> None:
    with pytest.raises(GateClosed, match="leave out --write"):
        write_weight(tmp_path / "missing" / "crossfade.yaml", "docs", 25)

"""The token is made once, read by its owner only, and compared whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from proxy.control import token
from proxy.errors import ConfigError


def test_it_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    made = token.load_or_create(data_dir)
    assert len(made) >= 40
    assert token.load_or_create(data_dir) == made
    assert token.load(data_dir) == made
    assert stat.S_IMODE((data_dir / token.FILE_NAME).stat().st_mode) == 0o600
    assert os.listdir(data_dir) == [token.FILE_NAME]


def test_two_proxies_make_two_tokens(tmp_path: Path) -> None:
    assert token.load_or_create(tmp_path / "a") != token.load_or_create(tmp_path / "b")


def test_a_missing_or_empty_token_is_told_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is `crossfade serve` running"):
        token.load(tmp_path)
    (tmp_path / token.FILE_NAME).write_text("\n")
    with pytest.raises(ConfigError, match="delete the file"):
        token.load_or_create(tmp_path)


def test_a_data_dir_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="check data_dir"):
        token.load_or_create(tmp_path / "file" / "data")


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        ("Bearer secret", True),
        ("bearer secret", True),
        ("Bearer secre", False),
        ("Bearer secret2", False),
        ("Bearer ", False),
        ("Basic secret", False),
        ("secret", False),
        ("", False),
        (None, False),
        ("Bearer sécret", False),
    ],
)
def test_only_the_whole_token_fits(header: str | None, fits: bool) -> None:
    assert token.matches(header, "secret") is fits

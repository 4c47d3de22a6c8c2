"""What counts as an allowed licence, and what an installation brings."""

from __future__ import annotations

import pytest

from tests.support.licences import DEVELOPMENT, RUNTIME, Package, allowed, faults, shipped


@pytest.mark.parametrize(
    ("licence", "fits"),
    [
        ("MIT", True),
        ("MIT License", True),
        ("Apache Software License; MIT License", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND GPL-3.0-only OR Apache-2.0", True),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("MIT License; GNU General Public License v3 (GPLv3)", False),
        ("AGPL-3.0", False),
        ("UNKNOWN", False),
        ("", False),
        ("MIT garbage", False),
        ("(MIT", False),
    ],
)
def test_an_expression_is_allowed_if_its_allowed_parts_suffice(licence: str, fits: bool) -> None:
    assert allowed(licence, RUNTIME) is fits


def test_development_is_more_liberal_than_what_is_shipped() -> None:
    package = Package("tool", "1", "LGPL-3.0-or-later")
    assert faults([package], runtime=["tool"]) == [(package, "runtime")]
    assert faults([package], runtime=[]) == []
    assert DEVELOPMENT > RUNTIME


def test_what_is_shipped_is_followed_through_its_dependencies() -> None:
    found = shipped()
    assert {"aiohttp", "protobuf", "opentelemetry-sdk", "qdrant-edge-py"} <= found
    assert {"multidict", "prometheus-client", "pydantic-core"} <= found  # brought by others
    assert not {"pytest", "mypy", "pymilvus", "qdrant-client", "grpcio", "crossfade"} & found

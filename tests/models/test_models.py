"""The protocol holds in every state that its models can reach; and for each rule that is left out, one is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.models.catalogue import MODELS
from tests.models.explore import Model, check

MUTATIONS = [(model, rule) for model in MODELS for rule in model.rules]


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.name)
def test_the_protocol_holds(kind: type[Model[Any]]) -> None:
    result = check(kind())
    assert result.wrong is None, f"\n{result.wrong}"


@pytest.mark.parametrize(("kind", "rule"), MUTATIONS, ids=[f"{kind.name}-{rule}" for kind, rule in MUTATIONS])
def test_every_rule_is_needed(kind: type[Model[Any]], rule: str) -> None:
    assert check(kind(rule)).wrong is not None, f"nothing goes wrong without: {kind.rules[rule]}"


def test_every_model_is_in_the_documentation() -> None:
    page = Path("docs/models.md").read_text()
    rows = [f"| `{kind.name}` | {kind.about} |" for kind in MODELS]
    rows += [f"| `{name}` | {rule} |" for kind in MODELS for name, rule in kind.rules.items()]
    assert not [row for row in rows if row not in page]

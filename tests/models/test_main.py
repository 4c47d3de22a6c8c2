"""The command: what it prints, and when it says that something failed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models import __main__ as command
from tests.models.reads import Reads


def test_a_model_and_its_mutations(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--model", "reads", "--mutate", "all"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("caught") == len(Reads.rules)
    assert "nothing failed" in printed


def test_one_mutation_shows_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--mutate", "one-replica-read"]) == 0
    printed = capsys.readouterr().out
    assert "without: replicas that disagree are no answer" in printed
    assert "WRONG: at rest and clean, but the stores differ" in printed


def test_a_model_that_does_not_hold_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(without: str = "") -> Reads:
        return Reads("read-without-barrier")

    monkeypatch.setattr(command, "MODELS", (_named(broken),))
    assert command.main([]) == 1
    assert "failed: reads" in capsys.readouterr().out


def test_a_mutation_that_is_not_caught_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "MODELS", (_named(lambda without="": Reads()),))
    assert command.main(["--mutate", "read-without-barrier"]) == 1
    assert "NOT CAUGHT" in capsys.readouterr().out


def test_a_mutation_that_no_model_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--mutate", "nothing"]) == 2


def _named(make: Any) -> Any:
    """Something that makes models, with the names of the class that it stands for."""
    make.name, make.rules = Reads.name, Reads.rules
    return make

"""The compiled form (pyproject.toml, `make compiled`): that it can be made, and of what. What it does is shown by the
whole suite, run with FORM=compiled."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from proxy.protocols import http1
from proxy.release import is_compiled, release
from tests.support.form import python_path

ROOT = Path(__file__).parents[2]
_WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
COMPILED: list[str] = [name.removeprefix("/") for name in _WHEEL["hooks"]["mypyc"]["include"]]
_TRANSLATE = """
import sys
import setuptools  # before mypyc, which builds on it
from mypyc.build import mypycify
made = mypycify(["--config-file=", *sys.argv[2:]], target_dir=sys.argv[1])
print(len(made))
"""


def test_the_modules_are_named_once_and_there() -> None:
    assert sorted(set(COMPILED)) == COMPILED
    assert [name for name in COMPILED if not (ROOT / name).is_file()] == []
    assert "proxy/protocols/http1.py" in COMPILED  # by which the form is told


@pytest.mark.parametrize("name", COMPILED)
def test_no_class_depends_on_what_is_left_out(name: str) -> None:
    """Keywords of a class (msgspec.Struct's `frozen`, `eq`, ...) have no effect when it is compiled."""
    classes = [node for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.ClassDef)]
    assert [each.name for each in classes if each.keywords] == []


@pytest.mark.parametrize("name", COMPILED)
def test_types_are_what_they_say(name: str) -> None:
    """Once compiled, a value of another type than the one that is written is an error."""
    assert "type: ignore" not in (ROOT / name).read_text()


@pytest.mark.parametrize("name", COMPILED)
def test_constants_are_final(name: str) -> None:
    """Compiled, any other name of a module is looked for in a dict each time. (Not of times: tests set those.) A tuple
    says that it has any length: one of floats was "not set" otherwise (mypyc of mypy 2.4)."""
    module = ast.parse((ROOT / name).read_text()).body
    names = [
        target.id
        for node in module
        if isinstance(node, ast.Assign)
        for whole in node.targets
        for target in (whole.elts if isinstance(whole, ast.Tuple) else [whole])
        if isinstance(target, ast.Name)
    ]
    constants = [each for each in names if each.isupper() and len(each.strip("_")) > 1]  # T is a type
    assert [each for each in constants if not each.endswith("SECONDS")] == []
    annotated = [node for node in module if isinstance(node, ast.AnnAssign)]
    assert [ast.unparse(node) for node in annotated if not ast.unparse(node.annotation).startswith("Final")] == []
    tuples = [node for node in annotated if isinstance(node.value, ast.Tuple)]
    assert [ast.unparse(node) for node in tuples if "..." not in ast.unparse(node.annotation)] == []


@pytest.mark.parametrize("name", COMPILED)
def test_nothing_is_awaited_while_an_exception_is_handled(name: str) -> None:
    """Compiled, a coroutine has no place of its own for the exception that it handles: what is awaited meanwhile, and
    whatever else runs then, has it too. A `finally` that awaits even leaves it there (mypyc of mypy 2.4,
    transform_try_finally_stmt_async), and whatever comes through such a `finally` later raises it once more."""
    blocks = [
        block
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.Try)
        for block in (*node.finalbody, *(line for handler in node.handlers for line in handler.body))
    ]
    awaits = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [each.lineno for block in blocks for each in ast.walk(block) if isinstance(each, awaits)] == []


def test_all_of_them_can_be_compiled(tmp_path: Path) -> None:
    """As far as to C, for which no compiler has to be there."""
    program = [sys.executable, "-c", _TRANSLATE, str(tmp_path), *_WHEEL["hooks"]["mypyc"]["mypy-args"], *COMPILED]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.split()[-1] == str(len(COMPILED) + 1)  # an extension each, and what they share
    assert list(tmp_path.glob("*.c"))


def test_it_is_the_form_that_was_asked_for() -> None:
    """In this process, and in one that is started as the tests start a proxy."""
    asked = os.environ.get("CROSSFADE_FORM") == "compiled"
    assert http1.RequestReader.feed.__class__.__name__ == ("method_descriptor" if asked else "function")
    assert (is_compiled(), release().endswith("+compiled")) == (asked, asked)
    program = [sys.executable, "-c", "from proxy.cli import main; main()", "version"]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    told = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
    assert told == release()
    assert told.startswith("0.")

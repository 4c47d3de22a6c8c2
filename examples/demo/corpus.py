"""The texts of the demo: the docstrings of this Python's own standard library, with their embeddings.

Real text that is on every machine, about 5,000 pieces, each with natural metadata: the module it is in, the name of
what it documents and the kind of that (module, class, function, method). Texts are distinct, so that a search for a
text's own vector must find that text first. `Corpus.save` and `load` hand it to the application's process.
"""

from __future__ import annotations

import ast
import json
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from examples.demo.embed import Vectors, embed

LEAST_CHARACTERS = 60
MOST_CHARACTERS = 2_000
NEW_TEXTS = 300  # held back from the load: what the application adds while the migration runs

# Not the library itself: its tests, bundled wheels, graphical toys and translations' tables.
_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "encodings"}
)


@dataclass(frozen=True, slots=True)
class Text:
    """`name` is qualified within `module`: "Path.glob" in "pathlib"; of a module it is the module's."""

    id: int
    module: str
    name: str
    kind: str
    text: str

    def payload(self) -> dict[str, str]:
        return {"module": self.module, "name": self.name, "kind": self.kind, "text": self.text}


@dataclass(frozen=True, slots=True)
class Corpus:
    """`vectors[i]`, a unit vector, belongs to `texts[i]`. The last NEW_TEXTS are not loaded at the beginning."""

    texts: tuple[Text, ...]
    vectors: Vectors

    @property
    def loaded(self) -> int:
        """How many are loaded at the beginning."""
        return len(self.texts) - NEW_TEXTS

    def save(self, directory: Path) -> None:
        (directory / "texts.json").write_text(json.dumps([asdict(text) for text in self.texts]))
        np.save(directory / "vectors.npy", self.vectors)

    @classmethod
    def load(cls, directory: Path) -> Corpus:
        texts = json.loads((directory / "texts.json").read_text())
        return cls(tuple(Text(**text) for text in texts), np.load(directory / "vectors.npy"))


def standard_library() -> Corpus:
    """Read and embed it: some seconds."""
    distinct = {text: (module, name, kind) for module, name, kind, text in _docstrings()}
    found = sorted((module, name, kind, text) for text, (module, name, kind) in distinct.items())
    order = np.random.default_rng(0).permutation(len(found))  # what is held back comes from everywhere
    texts = tuple(Text(number, *found[at]) for number, at in enumerate(order, start=1))
    return Corpus(texts, embed([text.text for text in texts]))


def _docstrings() -> Iterator[tuple[str, str, str, str]]:
    """(module, name, kind, text) of every docstring that is long enough."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED.intersection(parts):
            continue
        module = ".".join(parts).removesuffix(".__init__")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # templates and broken examples are no source text
            continue
        for name, kind, node in _documented(tree, module):
            text = ast.get_docstring(node) or ""
            if len(text) >= LEAST_CHARACTERS:
                yield module, name, kind, text[:MOST_CHARACTERS]


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[str, str, _Documented]]:
    yield module, "module", tree
    yield from _members(tree, "")


def _members(owner: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str, _Documented]]:
    for node in owner.body:
        match node:
            case ast.ClassDef():
                yield prefix + node.name, "class", node
                yield from _members(node, f"{prefix}{node.name}.")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield prefix + node.name, "method" if prefix else "function", node

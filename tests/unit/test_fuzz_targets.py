"""The corpus of the fuzzer, and every cut of a small part of it, through the fuzzer's targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def test_there_is_a_corpus_for_every_target() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_recorded_holds_however_it_is_cut(path: Path) -> None:
    data, target = path.read_bytes(), TARGETS[path.parent.name]
    target(data)
    if path.parent.name != "http1":  # which cuts it everywhere itself
        for cut in range(min(len(data), 400)):
            target(cut.to_bytes(2, "big") + data[2:1500])


@pytest.mark.parametrize("name", TARGETS)
def test_anything_holds(name: str) -> None:
    for data in (b"", b"\0", b"\0\0", b"\0\x05GET / HTTP/1.1\r\n\r\n", b"\xff" * 300, bytes(300)):
        TARGETS[name](data)

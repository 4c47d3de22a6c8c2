"""Paths of filters, as far as Milvus can follow them: keys only, no elements of arrays.

The path language is the model's: keys joined by dots, other characters than letters, digits, "_" and "-" in double
quotes, "[]" and "[3]" for elements of arrays. A `Path` is its keys, outermost first.
"""

from __future__ import annotations

import re
from functools import lru_cache

from proxy.errors import InvalidRequest, Untranslatable

Path = tuple[str, ...]

_RAW = re.compile(r"[\w-]+")
_KEY = re.compile(r'(?P<raw>[\w-]+)|"(?P<quoted>[^\\"]*)"')
_ELEMENT = re.compile(r"\[[0-9]*\]")


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """The keys of a path. Raises InvalidRequest for what is no path, Untranslatable for elements of arrays, and for
    keys that the server would not look up as such: empty ones, and numbers below the first (taken for an index)."""
    keys: list[str] = []
    position = 0
    while True:
        match = _KEY.match(text, position)
        if match is None:
            raise InvalidRequest(f"invalid JSON path {text!r}: expected a key at character {position}")
        keys.append(match["raw"] if match["raw"] is not None else match["quoted"])
        position = match.end()
        if element := _ELEMENT.match(text, position):
            raise Untranslatable(f"filter: element of an array ({element[0]})")
        if position == len(text):
            break
        if text[position] != ".":
            raise InvalidRequest(f"invalid JSON path {text!r}: expected a dot at character {position}")
        position += 1
    if "" in keys or any(key.isdecimal() for key in keys[1:]):
        raise Untranslatable("filter: empty or numeric key")
    return tuple(keys)


def path_text(keys: Path) -> str | None:
    """The canonical text of a path; None if no filter can name it (a quote or backslash in a key)."""
    if any('"' in key or "\\" in key for key in keys):
        return None
    return ".".join(key if _RAW.fullmatch(key) else f'"{key}"' for key in keys)

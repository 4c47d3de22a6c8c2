"""Where the embedded Qdrant engine's collections lie on disk, and the small files that describe them.

    PATH/aliases.json                    {alias: collection}
    PATH/collections/DIR/collection.json the description; a directory without it is no collection
    PATH/collections/DIR/shard/          the engine's own files

DIR is the collection's name, percent-encoded; a name too long for that gets a digest, and collection.json has
the name itself. Files are replaced, never edited, and synced: after a crash there is the old or the new one.
A collection appears with its collection.json and disappears with it, so half-made and half-dropped ones are
cleared away at the next start.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

LONGEST_NAME_BYTES = 200


def directory_name(collection: str) -> str:
    """A file name for any collection name; different names get different ones."""
    encoded = quote(collection, safe=" ")
    if encoded.strip(".") == "":
        encoded = encoded.replace(".", "%2E")
    if len(encoded) > LONGEST_NAME_BYTES:
        # "%%" never comes out of `quote`, so a shortened name cannot be another's full one.
        digest = hashlib.sha256(collection.encode()).hexdigest()
        encoded = f"{encoded[: LONGEST_NAME_BYTES - 66]}%%{digest}"
    return encoded


class EdgeFiles:
    """The directory of one store."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._collections = path / "collections"

    def prepare(self) -> None:
        """Make the directories, and clear away what a crash left of collections."""
        self._collections.mkdir(parents=True, exist_ok=True)
        for directory in self._collections.iterdir():
            if not (directory / "collection.json").exists():
                shutil.rmtree(directory)

    def described(self) -> Iterator[dict[str, Any]]:
        """What `describe` wrote, of every collection."""
        for directory in sorted(self._collections.iterdir()):
            yield json.loads((directory / "collection.json").read_bytes())

    def shard(self, collection: str) -> str:
        """Where the engine keeps the collection; made if it is missing."""
        shard = self._collections / directory_name(collection) / "shard"
        shard.mkdir(parents=True, exist_ok=True)
        return str(shard)

    def describe(self, collection: str, description: Mapping[str, Any]) -> None:
        """From here on the collection exists."""
        _replace(self._collections / directory_name(collection) / "collection.json", description)

    def remove(self, collection: str) -> None:
        directory = self._collections / directory_name(collection)
        (directory / "collection.json").unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)

    def aliases(self) -> dict[str, str]:
        path = self._root / "aliases.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def keep_aliases(self, aliases: Mapping[str, str]) -> None:
        _replace(self._root / "aliases.json", aliases)


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    new = path.with_name(path.name + ".new")
    with open(new, "wb") as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

"""What the demo does with the two databases themselves, past the proxy: load the source, count both, search both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from qdrant_client import QdrantClient, models

from examples.demo.application import COLLECTION
from examples.demo.corpus import Corpus
from examples.demo.embed import DIMENSIONS
from examples.demo.processes import QdrantEmulator, Target

_BATCH = 256


def load(source: QdrantEmulator, corpus: Corpus, progress: Callable[[int, int], None]) -> None:
    """Put the first load into a new collection of the source, as its application once did."""
    client = QdrantClient(url=source.url, timeout=60)
    create_collection(client, COLLECTION)
    client.create_payload_index(COLLECTION, "kind", models.PayloadSchemaType.KEYWORD)
    for start in range(0, corpus.loaded, _BATCH):
        numbers = range(start, min(start + _BATCH, corpus.loaded))
        client.upsert(COLLECTION, points(corpus, numbers))
        progress(numbers.stop, corpus.loaded)
    client.close()


def create_collection(client: QdrantClient, name: str) -> None:
    client.create_collection(name, vectors_config=models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE))


def points(corpus: Corpus, numbers: Sequence[int]) -> list[models.PointStruct]:
    """The points of some of the corpus's texts."""
    return [
        models.PointStruct(
            id=corpus.texts[number].id, vector=corpus.vectors[number].tolist(), payload=corpus.texts[number].payload()
        )
        for number in numbers
    ]


class Counters:
    """Counts the points on each side by asking the databases, not the proxy."""

    def __init__(self, source: QdrantEmulator, target: Target) -> None:
        from pymilvus import MilvusClient

        self._source = QdrantClient(url=source.url, timeout=60)
        self.milvus: Any = MilvusClient(f"http://{target.address}", timeout=60)

    def source(self) -> int:
        return self._source.count(COLLECTION, exact=True).count

    def target(self) -> int:
        """0 while the collection is not there."""
        if not self.milvus.has_collection(COLLECTION):
            return 0
        counted = self.milvus.query(
            COLLECTION, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=60
        )
        return int(counted[0]["count(*)"])

    def look(self) -> tuple[int | None, int | None]:
        """Both, for the view; None for what cannot be counted now."""
        found: list[int | None] = []
        for count in (self.source, self.target):
            found.append(None)
            with contextlib.suppress(Exception):  # only looking: whatever is wrong shows elsewhere
                found[-1] = count()
        return found[0], found[1]

"""Latency through the proxy beside direct, measured in one run.

The variants of an operation take turns, request by request, so that whatever else the machine does hits all alike. A
header that a rule of the configuration knows makes the source answer through the proxy although all reads are on the
target. Direct upserts go to a collection of their own, since writes past the proxy would make the stores differ.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qdrant_client import QdrantClient

from examples.demo.application import COLLECTION
from examples.demo.corpus import Corpus
from examples.demo.databases import Counters, create_collection, points
from examples.demo.processes import Proxy, QdrantEmulator
from examples.demo.tally import Latency

SAMPLES = 120
_WARM_UP = 10
_SLOWEST_SECONDS = 10.0  # a round of variants ends then, with the samples it has
_PROBE = "latency_probe"

Call = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Row:
    """`path` is direct or crossfade; `answered_by` source or target."""

    operation: str
    client: str
    path: str
    answered_by: str
    latency: Latency


def measure(source: QdrantEmulator, proxy: Proxy, counters: Counters, corpus: Corpus) -> list[Row]:
    """Searches (10 hits, payloads included) and upserts of one point, one request at a time."""
    first = corpus.loaded - SAMPLES - _WARM_UP  # texts that the application does not write
    rows: list[Row] = []
    for transport in ("REST", "gRPC"):
        with _client(source.url, source.grpc_port, transport) as direct, _through(proxy, transport) as through:
            variants = {
                ("direct", "source"): _search(direct, corpus, first),
                ("crossfade", "source"): _search(through["source"], corpus, first),
                ("crossfade", "target"): _search(through["target"], corpus, first),
            }
            if transport == "gRPC":  # Milvus's own client speaks nothing else
                variants["direct", "target"] = _search_milvus(counters, corpus, first)
            rows += _take_turns("search", transport, variants)
            rows += _take_turns("upsert", transport, _upserts(direct, through["target"], corpus, first))
    return rows


def _upserts(direct: QdrantClient, through: QdrantClient, corpus: Corpus, first: int) -> dict[tuple[str, str], Call]:
    if not direct.collection_exists(_PROBE):
        create_collection(direct, _PROBE)
        direct.upsert(_PROBE, points(corpus, range(first, first + SAMPLES + _WARM_UP)))
    return {
        ("direct", "source"): lambda number: direct.upsert(_PROBE, points(corpus, [first + number])),
        ("crossfade", "source"): lambda number: through.upsert(COLLECTION, points(corpus, [first + number])),
    }


def _search(client: QdrantClient, corpus: Corpus, first: int) -> Call:
    return lambda number: client.query_points(COLLECTION, query=corpus.vectors[first + number].tolist(), limit=10)


def _search_milvus(counters: Counters, corpus: Corpus, first: int) -> Call:
    return lambda number: counters.milvus.search(
        COLLECTION,
        [corpus.vectors[first + number].tolist()],
        limit=10,
        output_fields=["*"],
        search_params={"params": {"ef": 128}},
        consistency_level="Session",
    )


def _take_turns(operation: str, client: str, variants: dict[tuple[str, str], Call]) -> Iterator[Row]:
    seconds: dict[tuple[str, str], list[float]] = {variant: [] for variant in variants}
    deadline = time.monotonic() + _SLOWEST_SECONDS
    for number in range(SAMPLES + _WARM_UP):
        for variant, call in variants.items():
            began = time.perf_counter()
            call(number)
            if number >= _WARM_UP:
                seconds[variant].append(time.perf_counter() - began)
        if time.monotonic() > deadline:
            break
    for (path, answered_by), taken in seconds.items():
        yield Row(operation, client, path, answered_by, Latency.of(taken))


@contextlib.contextmanager
def _client(url: str, grpc_port: int, transport: str, headers: dict[str, str] | None = None) -> Iterator[QdrantClient]:
    client = QdrantClient(
        url=url, grpc_port=grpc_port, prefer_grpc=transport == "gRPC", timeout=60, headers=headers or {}
    )
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def _through(proxy: Proxy, transport: str) -> Iterator[dict[str, QdrantClient]]:
    """Clients of the proxy, by the side that answers their reads."""
    with (
        _client(proxy.url, proxy.grpc_port, transport, {"x-read-from": "source"}) as source,
        _client(proxy.url, proxy.grpc_port, transport) as target,
    ):
        yield {"source": source, "target": target}

"""The live application: somebody's program that uses Qdrant, and does not know that it is being moved.

The official qdrant-client, unchanged but for its URL, half of the work over REST and half over gRPC. Two threads
search, two write; each writer has texts of its own that nobody else changes, so it knows what it must read back:
after an upsert, a payload update or a delete, a retrieve must see exactly that, whoever answers. The searchers ask for
texts that nobody changes, and know what must come first. An answer that breaks such a promise is a failed request.

    python -m examples.demo.application --corpus DIR --url http://127.0.0.1:6333 --grpc-port 6334 --figures FILE

It writes what it counts to FILE five times a second, until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from qdrant_client import QdrantClient, models

from examples.demo.corpus import Corpus, Text
from examples.demo.embed import Vectors, embed
from examples.demo.tally import Tally, WrongAnswer

COLLECTION = "docs"
WRITTEN_BY_EACH = 400  # texts of the first load that each writer changes, beside its half of the new ones
THINK_SECONDS = 0.015  # between two requests of a thread
_TIMEOUT_SECONDS = 30

QUESTIONS = (
    "send an email over SMTP",
    "compress a file with gzip",
    "parse command line arguments",
    "run a coroutine with a timeout",
    "read the rows of a CSV file",
    "parse a date from a string",
    "start a pool of threads",
    "decode base64",
    "copy a directory tree",
    "compute a cryptographic hash",
    "match a regular expression",
    "open a URL and read the page",
)


class Worker:
    """One thread of the application, with a client of its own."""

    def __init__(self, client: QdrantClient, transport: str, corpus: Corpus, tally: Tally, stop: threading.Event):
        self.client = client
        self.transport = transport
        self.corpus = corpus
        self.tally = tally
        self._stop = stop

    def run(self) -> None:
        while not self._stop.wait(THINK_SECONDS):
            self.step()

    def step(self) -> None:
        raise NotImplementedError

    def vector(self, text: Text) -> list[float]:
        vector: list[float] = self.corpus.vectors[text.id - 1].tolist()
        return vector


class Searcher(Worker):
    """Asks for `texts`, which nobody changes."""

    texts: Sequence[Text]
    questions: Vectors

    def step(self) -> None:
        text = random.choice(self.texts)
        match random.choices(("search", "filtered", "question", "retrieve"), (60, 20, 10, 10))[0]:
            case "search":
                with self.tally.request(self.transport, "search"):
                    self._must_lead(text, self._search(self.vector(text), 10))
            case "filtered":
                with self.tally.request(self.transport, "filtered search"):
                    hits = self._search(self.vector(text), 10, text.kind)
                    self._must_lead(text, hits)
                    if any((hit.payload or {}).get("kind") != text.kind for hit in hits):
                        raise WrongAnswer(f"not only of the kind {text.kind!r}: {[hit.id for hit in hits]}")
            case "question":
                self._ask(random.randrange(len(QUESTIONS)))
            case _:
                with self.tally.request(self.transport, "retrieve"):
                    found = self.client.retrieve(COLLECTION, [text.id], with_payload=True)
                    if [record.payload for record in found] != [text.payload()]:
                        raise WrongAnswer(f"point {text.id} is not what was loaded: {found}")

    def _ask(self, number: int) -> None:
        with self.tally.request(self.transport, "question"):
            hits = self._search(self.questions[number].tolist(), 5)
            if len(hits) != 5:
                raise WrongAnswer(f"{len(hits)} answers instead of 5")
            best = hits[0].payload or {}
            self.tally.answered(QUESTIONS[number], f"{best['module']}: {best['name']}")

    def _search(self, vector: list[float], limit: int, kind: str | None = None) -> list[models.ScoredPoint]:
        chosen = None
        if kind is not None:
            chosen = models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value=kind))])
        hits = self.client.query_points(COLLECTION, query=vector, limit=limit, query_filter=chosen).points
        scores = [hit.score for hit in hits]
        if len(hits) > limit or scores != sorted(scores, reverse=True):
            raise WrongAnswer(f"{len(hits)} hits of at most {limit}, with the scores {scores}")
        return hits

    def _must_lead(self, text: Text, hits: Sequence[models.ScoredPoint]) -> None:
        """The text itself, with a cosine of 1 (others may tie: the same words in another order)."""
        itself = next((hit for hit in hits if hit.id == text.id), None)
        if itself is None or abs(itself.score - 1) > 1e-3 or hits[0].score - itself.score > 1e-3:
            raise WrongAnswer(f"a search for point {text.id} itself found {[(hit.id, hit.score) for hit in hits]}")


class Writer(Worker):
    """Changes `texts`, which are its own. `known` holds what must be read back: the payload, None after a delete; a
    text that is not in it was not written yet, or with an unclear outcome."""

    texts: Sequence[Text]

    def __init__(self, client: QdrantClient, transport: str, corpus: Corpus, tally: Tally, stop: threading.Event):
        super().__init__(client, transport, corpus, tally, stop)
        self.known: dict[int, dict[str, object] | None] = {}
        self._revision = 0

    def step(self) -> None:
        text = random.choice(self.texts)
        self._revision += 1
        if self.known.get(text.id) is None:
            others = random.sample(self.texts, random.randint(0, 3))
            self._upsert(list({one.id: one for one in (text, *others)}.values()))
        else:
            match random.choices(("upsert", "payload", "delete"), (40, 35, 25))[0]:
                case "upsert":
                    self._upsert([text])
                case "payload":
                    self._set_payload(text)
                case _:
                    self._delete(text)
        if random.random() < 0.5:
            self._read_back(text)

    def _upsert(self, texts: Sequence[Text]) -> None:
        """New texts, and new versions of old ones: a text that was edited has another vector too."""
        points = []
        after: dict[int, dict[str, object] | None] = {}
        for text in texts:
            payload: dict[str, object] = {**text.payload(), "revision": self._revision}
            edited = self.corpus.vectors[text.id - 1] + 0.2 * random.choice(self.corpus.vectors)
            points.append(models.PointStruct(id=text.id, vector=edited.tolist(), payload=payload))
            after[text.id] = payload
            self.known.pop(text.id, None)
        with self.tally.request(self.transport, "upsert"):
            self.client.upsert(COLLECTION, points)
            self.known |= after

    def _set_payload(self, text: Text) -> None:
        before = self.known.pop(text.id)
        change = {"revision": self._revision, "reviewed_by": self.transport}
        with self.tally.request(self.transport, "set_payload"):
            self.client.set_payload(COLLECTION, payload=change, points=[text.id])
            self.known[text.id] = {**(before or {}), **change}

    def _delete(self, text: Text) -> None:
        self.known.pop(text.id)
        with self.tally.request(self.transport, "delete"):
            self.client.delete(COLLECTION, points_selector=[text.id])
            self.known[text.id] = None

    def _read_back(self, text: Text) -> None:
        if text.id not in self.known:
            return
        expected = self.known[text.id]
        with self.tally.request(self.transport, "read back"):
            found = [record.payload for record in self.client.retrieve(COLLECTION, [text.id])]
            if found != ([expected] if expected is not None else []):
                raise WrongAnswer(f"point {text.id} should be {expected}, and is {found}")


def workers(corpus: Corpus, url: str, grpc_port: int, tally: Tally, stop: threading.Event) -> list[Worker]:
    """Two for each transport, with the texts shared out between them."""
    calm = corpus.texts[2 * WRITTEN_BY_EACH : corpus.loaded]
    questions = embed(QUESTIONS)
    made: list[Worker] = []
    for half, transport in enumerate(("REST", "gRPC")):
        for kind in (Searcher, Writer):
            client = QdrantClient(
                url=url, grpc_port=grpc_port, prefer_grpc=transport == "gRPC", timeout=_TIMEOUT_SECONDS
            )
            worker = kind(client, transport, corpus, tally, stop)
            if isinstance(worker, Searcher):
                worker.texts, worker.questions = calm, questions
            elif isinstance(worker, Writer):
                old = corpus.texts[half * WRITTEN_BY_EACH : (half + 1) * WRITTEN_BY_EACH]
                worker.texts = (*old, *corpus.texts[corpus.loaded + half :: 2])
            made.append(worker)
    return made


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.demo.application", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--figures", type=Path, required=True)
    options = parser.parse_args(arguments)
    stop, tally = threading.Event(), Tally()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    at_work = workers(Corpus.load(options.corpus), options.url, options.grpc_port, tally, stop)
    threads = [threading.Thread(target=worker.run) for worker in at_work]
    for thread in threads:
        thread.start()
    while not stop.wait(0.2):
        tally.save(options.figures)
    for thread in threads:
        thread.join()
    tally.save(options.figures, ended=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The emulator: Qdrant's own engine, embedded (stores/qdrant_edge.py), behind Crossfade's own front for REST and gRPC.

It is a source to try migrations on where no Qdrant server can be had, and says so wherever it can without
disturbing a client: `GET /`, its log, its refusals. What is real is the engine: filters, scores, ids, partial
updates, the write-ahead log. What is not is the server around it: one process, no cluster, no vector index, no
snapshots. docs/emulator.md tells more.

    sockets ─► listeners ─► front.py (a key) ─► fronts/qdrant.py ─► stores/qdrant_edge.py

Run it in a process of its own (`crossfade emulate qdrant`): the engine stops Python while it works.
"""

from __future__ import annotations

from proxy.emulator.front import QdrantEmulator
from proxy.emulator.process import serve

__all__ = ["QdrantEmulator", "serve"]

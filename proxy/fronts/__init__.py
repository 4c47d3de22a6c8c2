"""Fronts: a client's requests answered from any store that can be a primary, in the client's own dialect.

    Request ─► dialect.decode ─► Call ─► QdrantFront.answer ─► Result ─► dialect.encode ─► Response
                                              │ names of collections, complaints, `wait`
                                              ▼
                                   operations.execute ─► PrimaryStore

A forwarder passes bytes on to a server of the client's vendor; a front takes its place where there is none: before an
embedded engine (the emulator), and before a store of another vendor that has become primary. What that store cannot
express comes out as Untranslatable, before anything was changed: the caller may have another store to ask.

    qdrant             the front for clients that speak Qdrant
    qdrant_complaints  what a Qdrant server says to a request that it cannot take
    qdrant_service     version and health
    operations         any operation of the model, on a PrimaryStore; names no vendor
    names              collections that the store calls otherwise than the client
"""

from __future__ import annotations

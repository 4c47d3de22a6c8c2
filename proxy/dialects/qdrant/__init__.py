"""Qdrant's REST and gRPC, both ends. Pure code: no I/O, no clock.

Bytes come in at `rest.QdrantRest` or `grpc.QdrantGrpc`, the two dialects that a listener's requests go through. They
ask `rest_routes` / `grpc_routes` what a request means and `rest_replies` / `grpc_replies` how its answer must look.
What a store sends to a Qdrant server (writes and definitions as proto) is in `grpc_writes`.

    ids, vectors, payloads       the parts of a point, JSON and proto
    filters_json, filters_proto  the filter tree
    selections, scores           which parts of a point an answer holds, and which way its scores point
    collections, configs         definitions and descriptions, JSON and proto
    judge, refusals              what a server's error means, and what ours look like
    undecodable                  how "the model cannot say this exactly" travels inside

Names of errors and defaults are taken from the server's sources (github.com/qdrant/qdrant, 1.19.0); each place that
depends on one names the file.
"""

from __future__ import annotations

"""The crossfade.yaml of the demo, and the edits that are made to it while the proxy runs."""

from __future__ import annotations

import os
from pathlib import Path

ROUTE = "docs"

_TEXT = """\
# Written by the demo. While it runs: edit a weight, save, and see `crossfade status`.
version: 1
data_dir: {data_dir}

listeners: # what the application connects to instead of its database
  - {{name: rest, vendor: qdrant, transport: http, address: "127.0.0.1:{rest_port}"}}
  - {{name: grpc, vendor: qdrant, transport: grpc, address: "127.0.0.1:{grpc_port}"}}

control: {{address: "127.0.0.1:{control_port}"}}
logging: {{format: text}}

stores:
  old:
    kind: qdrant
    longest_request_seconds: 3 # nothing on this machine takes longer; see docs/configuration.md
    url: "{source_url}"
    grpc_url: "http://127.0.0.1:{source_grpc_port}"
  new:
    kind: milvus
    longest_request_seconds: 3
    address: "{target_address}"
    index: {{type: HNSW, m: 16, ef_construction: 200, ef_search: 128}}

routes:
  - name: docs
    collections: [docs]
    source: old
    target: new
    reads:
      weight: 0 # percent of the reads that the target answers
    rules: # who sends this header chooses a side; the demo compares latencies with it
      - {{when: {{headers: {{x-read-from: source}}}}, read: source}}
    shadow:
      sample_percent: 0 # percent of the searches that both sides answer, to compare

unknown_collections: primary-only
"""


def write_configuration(
    path: Path,
    *,
    rest_port: int,
    grpc_port: int,
    control_port: int,
    source_url: str,
    source_grpc_port: int,
    target_address: str,
) -> None:
    """A migration of the collection `docs` in its first state: nothing is mirrored, all reads stay."""
    path.write_text(
        _TEXT.format(
            data_dir=path.parent / "crossfade-data",
            rest_port=rest_port,
            grpc_port=grpc_port,
            control_port=control_port,
            source_url=source_url,
            source_grpc_port=source_grpc_port,
            target_address=target_address,
        )
    )


def edit(path: Path, before: str, after: str) -> None:
    """Change the file and save it, as an editor does: a new file in the old one's place.

    Raises ValueError unless `before` is there exactly once.
    """
    text = path.read_text()
    if text.count(before) != 1:
        raise ValueError(f"{path} holds {before!r} {text.count(before)} times")
    draft = path.with_suffix(".draft")
    draft.write_text(text.replace(before, after))
    os.replace(draft, path)

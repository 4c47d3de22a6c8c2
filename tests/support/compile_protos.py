"""Compile protos/<vendor>/*.proto into the descriptor set that the program loads.

`python -m tests.support.compile_protos [VENDOR ...]` writes proxy/dialects/<vendor>/messages.binpb for the named
vendors, or for all. The set holds every imported file too, so that it can be loaded into an empty pool. It is
committed: running the program needs no compiler. A test compiles again and compares.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


def vendors() -> tuple[str, ...]:
    """The folders below protos/ that hold something to compile."""
    return tuple(sorted(folder.name for folder in PROTOS.iterdir() if any(folder.glob("*.proto"))))


def descriptor_set_path(vendor: str) -> Path:
    return ROOT / "proxy" / "dialects" / vendor / "messages.binpb"


def compiled(vendor: str) -> bytes:
    """The serialized FileDescriptorSet of a vendor. Raises ValueError if its files do not compile."""
    folder = PROTOS / vendor
    files = sorted(path.name for path in folder.glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "messages.binpb"
        arguments = ["protoc", f"-I{folder}", f"-I{WELL_KNOWN}", "--include_imports", f"--descriptor_set_out={out}"]
        if protoc.main([*arguments, *files]) != 0:
            raise ValueError(f"protos/{vendor} does not compile; protoc's message stands above")
        return out.read_bytes()


def main(names: list[str]) -> None:
    for vendor in names or vendors():
        path = descriptor_set_path(vendor)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(compiled(vendor))
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])

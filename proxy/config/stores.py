"""The stores that a configuration can name, discriminated by `kind`.

`longest_request_seconds` is an assumption that the operator makes: no request that this store has
received runs longer, whatever its client does. Holds last that long.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from proxy.config.section import OptionalSecret, Seconds, Section, Server, Text, Url

_LONGEST = "Assumed bound on how long a request can still be at work in the store after it was sent (seconds)"
_CA = "File with the authorities, in PEM, that may have signed the server's certificate; the system's, if not given"
_TIMEOUT = "How long a request of the proxy's own waits for this store's answer (seconds)"


class QdrantConfig(Section):
    """A Qdrant server."""

    kind: Literal["qdrant"] = Field(description="What the store is")
    url: Url = Field(description="REST address, http:// or https://; port 6333 if it names none")
    grpc_url: Url | None = Field(
        default=None, description="gRPC address as a URL; if not given, the host of `url` and the port after its port"
    )
    ca: Text | None = Field(default=None, description=_CA)
    api_key: OptionalSecret = Field(
        default=None, description="Key that the proxy's own requests carry, and clients' with auth.mode keys"
    )
    timeout_seconds: Seconds = Field(default=30, description=_TIMEOUT)
    longest_request_seconds: Seconds = Field(
        default=60, description=f"{_LONGEST}; a client's request that is passed on waits as long"
    )

    @property
    def grpc_endpoint(self) -> str:
        """`grpc_url`, or what stands for it: scheme://host:port."""
        if self.grpc_url is not None:
            return self.grpc_url
        parts = urlsplit(self.url)
        host, _, port = parts.netloc.rpartition(":")
        return f"{parts.scheme}://{host}:{int(port) + 1}"


class MilvusIndex(Section):
    """The vector index that the proxy makes in Milvus."""

    type: Literal["HNSW", "FLAT", "AUTOINDEX"] = Field(default="HNSW", description="Index type")
    m: Annotated[int, Field(ge=2, le=2048)] | None = Field(
        default=None, description="HNSW: links of a node; if not given, what the source collection has"
    )
    ef_construction: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="HNSW: candidates while building; if not given, what the source collection has",
    )
    ef_search: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="HNSW: candidates while searching; a search with a larger limit takes more",
    )

    @model_validator(mode="after")
    def _only_for_hnsw(self) -> MilvusIndex:
        given = self.model_fields_set - {"type"}
        if self.type != "HNSW" and given:
            raise ValueError(f"has {', '.join(sorted(given))}, which only the type HNSW takes")
        return self


class MilvusConfig(Section):
    """A Milvus server, Milvus Lite included."""

    kind: Literal["milvus"] = Field(description="What the store is")
    address: Server = Field(description="gRPC address, host:port")
    token: OptionalSecret = Field(default=None, description="Token, or user:password")
    database: Text = Field(default="default", description="Database that holds the collections")
    tls: bool = Field(default=False, description="Connect with TLS")
    ca: Text | None = Field(default=None, description=_CA)
    ids: Literal["integer", "text"] = Field(
        default="integer",
        description="Primary keys of collections that the proxy makes: INT64, or VARCHAR. "
        "Text holds any id (integers, UUIDs); integer is smaller and faster, and parks points with other ids",
    )
    index: MilvusIndex = Field(default_factory=MilvusIndex, description="The vector index to make")
    consistency: Literal["session", "strong", "bounded", "eventually"] = Field(
        default="session", description="Consistency level of the application's reads"
    )
    timeout_seconds: Seconds = Field(default=30, description=_TIMEOUT)
    longest_request_seconds: Seconds = Field(default=60, description=_LONGEST)


class QdrantEdgeConfig(Section):
    """Qdrant's engine inside this process (`pip install crossfade[edge]`)."""

    kind: Literal["qdrant_edge"] = Field(description="What the store is")
    path: Text = Field(description="Directory of the data, made if it is not there")
    longest_request_seconds: Seconds = Field(default=1, description=_LONGEST)


class MemoryConfig(Section):
    """A store in memory, gone with the process: for tests."""

    kind: Literal["memory"] = Field(description="What the store is")
    longest_request_seconds: Seconds = Field(default=1, description=_LONGEST)


StoreConfig = Annotated[QdrantConfig | MilvusConfig | QdrantEdgeConfig | MemoryConfig, Field(discriminator="kind")]

SPOKEN: dict[str, frozenset[str]] = {  # kind -> the vendors whose clients it can answer as the primary
    "qdrant": frozenset({"qdrant"}),
    "milvus": frozenset({"milvus"}),
    "qdrant_edge": frozenset({"qdrant"}),
    "memory": frozenset({"qdrant"}),
}


def endpoint(store: StoreConfig) -> str | None:
    """What two entries have in common if they are one database; None if it is in this process's memory."""
    match store:
        case QdrantConfig():
            return f"qdrant {store.url.partition('://')[2]}"
        case MilvusConfig():
            return f"milvus {store.address}/{store.database}"
        case QdrantEdgeConfig():
            return f"qdrant_edge {store.path}"
        case MemoryConfig():
            return None

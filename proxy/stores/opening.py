"""From configuration to adapters: the one table of vendors. Add yours here."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import assert_never
from urllib.parse import urlsplit

from proxy.config import MemoryConfig, MilvusConfig, MilvusIndex, QdrantConfig, QdrantEdgeConfig, StoreConfig
from proxy.dialects.milvus.schema import VectorIndex
from proxy.dialects.qdrant.access import with_key
from proxy.stores import Forwarder, Store
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.stores.forward_http import HttpForwarder
from proxy.stores.memory import MemoryStore
from proxy.stores.milvus import MilvusStore
from proxy.stores.own_key import OwnKeyForwarder
from proxy.stores.qdrant import QdrantStore
from proxy.stores.trust import trusting
from proxy.wire import Transport


def open_store(config: StoreConfig) -> Store:
    """The adapter; it connects when it is first used. Inside the running event loop."""
    match config:
        case QdrantConfig():
            grpc_url = urlsplit(config.grpc_endpoint)
            return QdrantStore(
                grpc_address=grpc_url.netloc,
                api_key=config.api_key.get_secret_value() if config.api_key else None,
                tls=trusting(config.ca, "h2") if grpc_url.scheme == "https" else None,
                rest_tls=_tls_of_rest(config),
                timeout_seconds=config.timeout_seconds,
                rest_url=config.url,
            )
        case MilvusConfig():
            return MilvusStore(
                address=config.address,
                token=config.token.get_secret_value() if config.token else None,
                database=config.database,
                tls=trusting(config.ca, "h2") if config.tls else None,
                ids=config.ids,
                index=_vector_index(config.index),
                consistency=config.consistency,
                timeout_seconds=config.timeout_seconds,
            )
        case QdrantEdgeConfig():
            from proxy.stores.qdrant_edge import QdrantEdgeStore  # an optional dependency, and slow to import

            return QdrantEdgeStore(path=Path(config.path))
        case MemoryConfig():
            return MemoryStore()
        case _:
            assert_never(config)


def open_forwarders(config: StoreConfig) -> dict[Transport, Forwarder]:
    """What passes clients' requests on to a server, by transport; empty for a store that lives in this process. Those
    whose key the proxy has checked carry the store's own, if it has one."""
    if not isinstance(config, QdrantConfig):
        return {}
    key = config.api_key.get_secret_value() if config.api_key else None
    plain = _qdrant_forwarders(config)
    return plain if key is None else {name: OwnKeyForwarder(each, key, with_key) for name, each in plain.items()}


def _qdrant_forwarders(config: QdrantConfig) -> dict[Transport, Forwarder]:
    grpc_url = urlsplit(config.grpc_endpoint)
    secure = grpc_url.scheme == "https"
    return {
        "http": HttpForwarder(
            config.url,
            timeout_seconds=config.longest_request_seconds,
            tls=_tls_of_rest(config),
        ),
        "grpc": GrpcForwarder(
            grpc_url.netloc,
            tls=trusting(config.ca, "h2") if secure else None,
            timeout_seconds=config.longest_request_seconds,
        ),
    }


def _vector_index(config: MilvusIndex) -> VectorIndex:
    return VectorIndex(config.type, m=config.m, ef_construction=config.ef_construction, ef_search=config.ef_search)


def _tls_of_rest(config: QdrantConfig) -> ssl.SSLContext | None:
    return trusting(config.ca, "http/1.1") if config.url.startswith("https") else None

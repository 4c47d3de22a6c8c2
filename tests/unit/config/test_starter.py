"""The configuration that `crossfade init` writes is valid, says what was asked, and holds no secret."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config import MilvusConfig, QdrantConfig, starter
from proxy.errors import ConfigError
from proxy.routing import RouteTable, Unrouted, target_name
from tests.unit.config.texts import parsed


def test_from_qdrant_to_milvus() -> None:
    config = parsed(starter("qdrant://old.example:6333", "milvus://new.example:19530", ids="text"))
    source, target = config.stores["qdrant"], config.stores["milvus"]
    assert isinstance(source, QdrantConfig)
    assert isinstance(target, MilvusConfig)
    assert (source.url, source.grpc_endpoint, source.api_key) == (
        "http://old.example:6333",
        "http://old.example:6334",
        None,
    )
    assert (target.address, target.tls, target.database, target.ids, target.token) == (
        "new.example:19530",
        False,
        "default",
        "text",
        None,
    )
    (route,) = config.routes
    assert (route.name, route.collections, route.source, route.target) == ("all", ("*",), "qdrant", "milvus")
    assert route.reads.weight == 0
    assert [(listener.transport, listener.address) for listener in config.listeners] == [
        ("http", "127.0.0.1:6333"),
        ("grpc", "127.0.0.1:6334"),
    ]


def test_every_line_that_an_operator_edits_is_explained() -> None:
    text = starter("qdrant://a", "milvus://b", ["one", "two"])
    for key in ("policy: primary", "weight: 0", "sticky: none", "rules: []", "sample_percent: 0", "ids: integer"):
        assert any(key in line and "#" in line for line in text.splitlines()), key


def test_tls_databases_and_default_ports() -> None:
    config = parsed(starter("qdrants://old.example", "milvuss://new.example/main"))
    source, target = config.stores["qdrant"], config.stores["milvus"]
    assert isinstance(source, QdrantConfig)
    assert isinstance(target, MilvusConfig)
    assert source.url == "https://old.example:6333"
    assert (target.address, target.tls, target.database) == ("new.example:19530", True, "main")


def test_keys_come_from_the_environment_two_servers_of_one_vendor_have_two() -> None:
    text = starter("qdrant://a", "qdrant://b")
    config = parsed(text, {"QDRANT_API_KEY": "one", "TARGET_QDRANT_API_KEY": "two"})
    keys = {
        name: store.api_key.get_secret_value()
        for name, store in config.stores.items()
        if isinstance(store, QdrantConfig) and store.api_key
    }
    assert keys == {"qdrant-old": "one", "qdrant-new": "two"}
    assert (config.routes[0].source, config.routes[0].target) == ("qdrant-old", "qdrant-new")


@pytest.mark.parametrize("url", ["qdrant://localhost:6333", "qdrant://127.0.0.1", "qdrant://[::1]:6333"])
def test_the_proxy_does_not_listen_where_the_source_does(url: str) -> None:
    config = parsed(starter(url, "milvus://127.0.0.1:19530"))
    assert [listener.address for listener in config.listeners] == ["127.0.0.1:7333", "127.0.0.1:7334"]


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("http://a:6333", "milvus://b", "http://a:6333 is not one of qdrant://HOST:6333"),
        ("qdrant://", "milvus://b", "qdrant:// is not one of"),
        ("qdrant://a:99999", "milvus://b", "the port is not between 0 and 65535"),
        ("milvus://a", "milvus://b", "an application of this vendor cannot be moved yet"),
        ("qdrant://:hush@a", "milvus://b", "take no keys"),
    ],
)
def test_other_urls_are_refused(source: str, target: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        starter(source, target)
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)


def test_names_that_mean_something_in_patterns_in_yaml_or_to_milvus_mean_themselves() -> None:
    config = parsed(starter("qdrant://a", "milvus://b", ["a*", "${B}", "my-docs", "my_docs", "0", 'quo"te\n']))
    table = RouteTable.of(config)
    assert isinstance(table.find("ab"), Unrouted)
    owners = [table.find(name) for name in ("a*", "${B}", "my-docs", "my_docs", "0", 'quo"te\n')]
    assert owners == list(config.routes)
    assert [route.name for route in config.routes] == ["a", "B", "my-docs", "my_docs", "0", "quo-te"]
    assert [dict(route.names) for route in config.routes] == [
        {"a*": "a_"},
        {"${B}": "__B_"},
        {"my-docs": "my_docs_2"},
        {},
        {"0": "_0"},
        {'quo"te\n': "quo_te_"},
    ]


@given(st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=6), st.sampled_from(["milvus", "qdrant"]))
@settings(deadline=None)
def test_any_collections_get_a_route_each_and_names_of_their_own(collections: list[str], vendor: str) -> None:
    config = parsed(starter("qdrant://a.example", f"{vendor}://b.example", collections))
    table = RouteTable.of(config)
    routes = [table.find(collection) for collection in collections]
    assert [route.name for route in routes if not isinstance(route, Unrouted)] == [
        route.name for route in config.routes if collections
    ]
    copies = {target_name(route, name) for route, name in zip(config.routes, collections, strict=False)}
    assert len(copies) == len(collections)

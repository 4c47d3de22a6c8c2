"""Text -> Config: what is taken, what is refused, and in which words."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config import MilvusConfig, QdrantConfig
from tests.unit.config.texts import BASE, parsed, problems


def test_what_is_not_given_has_its_default() -> None:
    config = parsed(BASE)
    route = config.routes[0]
    assert config.data_dir == "./crossfade-data"
    assert (config.listeners[0].max_body_bytes, config.listeners[0].debug_headers) == (33554432, True)
    assert (config.auth.mode, config.auth.keys, config.auth.cache_seconds) == ("none", (), 60)
    assert (config.control.address, config.control.token) == ("127.0.0.1:7700", None)
    assert (config.probes.address, config.logging.level, config.logging.format) == (None, "info", "json")
    assert (config.unknown_collections, config.source_of_the_rest) == ("primary-only", "old")
    assert route.writes.model_dump() == {
        "policy": "primary",
        "secondary_wait_ms": 500,
        "on_journal_loss": "refuse",
    }
    assert route.reads.model_dump() == {
        "weight": 0,
        "sticky": "none",
        "max_lag_keys": 1000,
        "max_lag_seconds": 10,
        "parked_points": "primary",
    }
    assert route.shadow.model_dump() == {"sample_percent": 0, "max_in_flight": 8, "keep_worst": 20, "k": 10}
    assert route.replication.model_dump() == {
        "reconcile_batch_points": 256,
        "hint_bytes": 67108864,
        "dirty_cap_keys": 200000,
    }
    assert route.backfill.page_points == 256
    assert {name: store.longest_request_seconds for name, store in config.stores.items()} == {
        "old": 60,
        "new": 60,
        "third": 1,
    }


def test_values_cannot_be_changed() -> None:
    config = parsed(BASE)
    with pytest.raises(ValidationError):
        config.routes[0].reads.weight = 5


def test_qdrants_grpc_address_is_the_next_port_of_the_same_host() -> None:
    def endpoint(entry: str) -> tuple[str, str]:
        store = parsed(BASE.replace('url: "http://old.example:6333"', entry)).stores["old"]
        assert isinstance(store, QdrantConfig)
        return store.url, store.grpc_endpoint

    assert endpoint('url: "http://h"') == ("http://h:6333", "http://h:6334")
    assert endpoint('url: "https://h:7000/prefix/"') == ("https://h:7000/prefix", "https://h:7001")
    assert endpoint('url: "http://[::2]:6333"') == ("http://[::2]:6333", "http://[::2]:6334")
    assert endpoint('url: "http://h", grpc_url: "https://g:1"') == ("http://h:6333", "https://g:1")


EVERYTHING_WRONG = """\
version: 2
listeners:
  - {name: rest, vendor: weaviate, transport: http, address: "127.0.0.1"}
auth: {mode: key}
control: {address: "0.0.0.0:7700"}
stores:
  old: {kind: qdrant, url: "http://user:secret@old:6333", api_key: "${NOT_SET}"}
  new: {kind: milvus, adress: "new:19530", token: 12345, index: {type: FLAT, m: 3}}
  odd: {kind: mivlus}
  new: {kind: memory}
routes:
  - name: docs
    collections: []
    source: nowhere
    target: new
    primary: target
    reads: {weight: 125, sticky: user, max_lag_keys: 0}
    writes: {policy: two, secondary_wait_ms: 1.5}
    rules:
      - when: {operations: [serch]}
        read: target
        weight: 3
  - source: old
    target: old
    collections: [a, b]
    name: same
    reads:
      weight: "25"
      stick: none
"""


def test_every_problem_is_told_at_once_each_with_its_line() -> None:
    assert problems(EVERYTHING_WRONG) == [
        "line 1: version: 2 is not one of 1",
        'line 3: listeners[0].address: "127.0.0.1" is not host:port, such as 127.0.0.1:6333 or [::1]:6333',
        'line 3: listeners[0].vendor: "weaviate" is not one of qdrant',
        'line 4: auth.mode: "key" is not one of none, keys, ask-primary; did you mean keys?',
        'line 5: control.address: "0.0.0.0:7700" is beyond loopback; control listens on this machine only '
        "(`probes` may be reached from outside)",
        "line 7: stores.old.api_key: the environment variable NOT_SET is not set; set it, or write ${NOT_SET:-default}",
        'line 7: stores.old.url: "http://...@old:6333" holds a name or password; give the key in `api_key`',
        "line 8: stores.new.address: is missing: gRPC address, host:port",
        "line 8: stores.new.adress: unknown key; did you mean `address`?",
        "line 8: stores.new.index: has m, which only the type HNSW takes",
        "line 8: stores.new.token: the secret is not text; put it in quotes",
        'line 9: stores.odd: kind "mivlus" is not one of memory, milvus, qdrant, qdrant_edge; did you mean milvus?',
        "line 10: stores.new: duplicate key; it stands on line 8 already",
        "line 13: routes[0].collections: is empty; give at least one",
        "line 16: routes[0].primary: moving the primary is not configuration, because every proxy of a route must "
        "change it at the same moment; remove this key (reads are moved by `reads.weight`)",
        "line 17: routes[0].reads.max_lag_keys: 0 is not between 1 and 1,000,000,000",
        'line 17: routes[0].reads.sticky: "user" is not none, client, tenant or header:NAME',
        "line 17: routes[0].reads.weight: 125 is not between 0 and 100",
        'line 18: routes[0].writes.policy: "two" is not one of primary, both, both-required',
        "line 18: routes[0].writes.secondary_wait_ms: 1.5 is not a whole number",
        'line 20: routes[0].rules[0].when.operations[0]: "serch" is not one of search, fetch, scroll, count; did you '
        "mean search?",
        'line 24: routes[1].target: "old" is the source too; a route moves from one store to another',
        'line 28: routes[1].reads.weight: "25" is not a number; write it without quotes',
        "line 29: routes[1].reads.stick: unknown key; did you mean `sticky`?",
    ]


def test_a_wrong_value_does_not_hide_an_unknown_store() -> None:
    text = BASE.replace("source: old", "source: nowhere") + "    reads: {weight: 125}\n"
    assert problems(text) == [
        'line 11: routes[0].source: "nowhere" is not a store; there are: old, new, third',
        "line 13: routes[0].reads.weight: 125 is not between 0 and 100",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the configuration must be a mapping that begins with `version: 1`"),
        ("- a", "line 1: the configuration must be a mapping that begins with `version: 1`"),
        ("{}", "the configuration is empty; `crossfade init` writes a first one"),
        ("version: 1\n a: b\n", "line 2: not YAML: mapping values are not allowed here"),
        ("version: 1\n\tx: y", "line 2: not YAML: while scanning for the next token; found character '\\t' that"),
        ("version: 1\n--- \nversion: 1\n", "line 2: not YAML: expected a single document in the stream; but found"),
        ("version: \x00", "line 1: not YAML: unacceptable character #x0000"),
        (
            "a: {b: ${C}}",
            "line 1: not YAML: while parsing a flow mapping; expected ',' or '}', but got '{'; inside { }",
        ),
        (
            "logging: !!python/object:os.system {}",
            "line 1: logging: the tag tag:yaml.org,2002:python/object:os.system is",
        ),
        ("logging: &a {level: *a}", "line 1: logging.level: an alias must not stand inside what it names"),
        ("? [a]\n: b", "line 1: a key must be text"),
    ],
)
def test_what_is_not_a_configuration_says_why(text: str, problem: str) -> None:
    assert any(line.startswith(problem) for line in problems(text)), problems(text)


def test_only_true_false_null_and_decimal_numbers_are_more_than_text() -> None:
    rule = """\
    tenant_field: group
    rules:
      - {when: {tenants: [no, 2024-01-01, 007, 1_000, '5', .inf]}, read: source}
"""
    assert parsed(BASE + rule).routes[0].rules[0].when.tenants == ("no", "2024-01-01", "007", "1_000", "5", ".inf")
    assert problems(BASE + rule.replace("007", "7")) == [
        "line 15: routes[0].rules[0].when.tenants[2]: 7 is not text; put it in quotes"
    ]
    assert problems(BASE.replace("19530", '19530", tls: "yes')) == [
        'line 6: stores.new.tls: "yes" is not true or false'
    ]


def test_a_key_without_a_value_counts_as_not_given() -> None:
    assert parsed(BASE + "    rules:\n      # nothing yet\n    reads:\nauth:\n") == parsed(BASE)
    assert problems(BASE + "    redas:\n") == ["line 13: routes[0].redas: unknown key; did you mean `reads`?"]


def test_anchors_are_followed() -> None:
    text = BASE.replace("collections: [docs]", "collections: &names [docs]") + (
        "    reads: {weight: 5}\n    rules:\n      - {when: {collections: *names}, weight: 7}\n"
    )
    assert parsed(text).routes[0].rules[0].when.collections == ("docs",)


# --- ${...} ------------------------------------------------------------------------------------


def with_token(written: str) -> str:
    return BASE.replace('"new.example:19530"', f'"new.example:19530", token: {written}')


@pytest.mark.parametrize(
    ("written", "token"),
    [
        ('"${TOKEN}"', "12345"),
        ('"root:${TOKEN}"', "root:12345"),
        ('"${ABSENT:-root:Milvus}"', "root:Milvus"),
        ('"${EMPTY:-default}"', "default"),
        ('"${file:/run/token}"', " from a file\nof two lines"),
        ('"$${TOKEN}"', "${TOKEN}"),
        ('"$TOKEN $ {}"', "$TOKEN $ {}"),
        ('"${NESTED}"', "${TOKEN}"),
        ('"${ABSENT:-}"', None),
        ('"${EMPTY}"', None),
    ],
)
def test_values_come_from_the_environment_and_from_files(written: str, token: str | None) -> None:
    environment = {"TOKEN": "12345", "EMPTY": "", "NESTED": "${TOKEN}"}
    store = parsed(with_token(written), environment, {"/run/token": " from a file\nof two lines\n"}).stores["new"]
    assert isinstance(store, MilvusConfig)
    assert (store.token.get_secret_value() if store.token else None) == token


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ('"${TOKEN}"', "the environment variable TOKEN is not set; set it, or write ${TOKEN:-default}"),
        ('"${1}"', "`${1}` is none of ${NAME}, ${NAME:-default}, ${file:/path}"),
        ('"${TOKEN"', "`${` without its `}`; write `$${` for the two characters themselves"),
        ('"${file:/absent}"', "cannot read the file /absent: No such file or directory"),
    ],
)
def test_what_cannot_be_substituted_is_one_problem_with_its_line(written: str, problem: str) -> None:
    assert problems(with_token(written)) == [f"line 6: stores.new.token: {problem}"]


def test_a_variable_is_a_number_or_a_truth_value_where_one_is_expected() -> None:
    text = (
        BASE
        + "    reads: {weight: '${WEIGHT}', max_lag_keys: '${KEYS}'}\n    backfill: {requests_per_second: '${RATE}'}\n"
    )
    environment = {"WEIGHT": "2.5", "KEYS": "7", "RATE": "10"}
    route = parsed(text, environment).routes[0]
    assert (route.reads.weight, route.reads.max_lag_keys, route.backfill.requests_per_second) == (2.5, 7, 10)
    assert parsed(BASE.replace('19530"', '19530", tls: "${TLS}"'), {"TLS": "true"}).stores["new"].tls is True  # type: ignore[union-attr]
    assert problems(text, environment | {"WEIGHT": "much", "KEYS": "7.5"}) == [
        "line 13: routes[0].reads.max_lag_keys: 7.5 is not a whole number",
        "line 13: routes[0].reads.weight: what ${WEIGHT} stands for is not a number",
    ]


def test_keys_are_not_substituted() -> None:
    assert problems(BASE + '"${KEY}": 1\n', {"KEY": "probes"})[0] == (
        "line 13: ${KEY}: ${...} is replaced in values only, not in keys"
    )


def test_no_secret_is_shown() -> None:
    text = (
        with_token('"hush-1"').replace('6333"}\n  new', '6333", api_key: "${KEY}"}\n  new')
        + 'auth: {mode: keys, keys: ["hush-3", "${KEY}"]}\ncontrol: {token: "hush-4"}\n'
    )
    config = parsed(text, {"KEY": "hush-2"})
    assert [key.get_secret_value() for key in config.auth.keys] == ["hush-3", "hush-2"]
    shown = repr(config) + str(config) + config.model_dump_json()
    misplaced = "\n".join(
        problems(text.replace("transport: http", 'transport: "${KEY}"') + "x: 1\n", {"KEY": "hush-2"})
    )
    assert "what ${KEY} stands for is not one of http, grpc" in misplaced
    assert "hush" not in shown + misplaced


# --- whatever is written ---------------------------------------------------------------------------

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab:/.*${}[1-9@\n", max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "name", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
_PLACES: list[tuple[str | int, ...]] = [
    *[(key,) for key in ("version", "listeners", "auth", "control", "probes", "stores", "routes", "default_route")],
    *[("listeners", 0, key) for key in ("name", "address", "vendor")],
    *[("stores", "old"), ("stores", "old", "kind"), ("stores", "old", "url"), ("stores", "new", "address")],
    *[
        ("routes", 0),
        *[("routes", 0, key) for key in ("name", "collections", "source", "target", "names", "reads", "rules")],
    ],
    ("auth", "keys"),
    ("auth", "mode"),
    ("unknown_collections",),
    ("default_source",),
]


@given(st.sampled_from(_PLACES), _ANYTHING)
@settings(deadline=None, max_examples=300)
def test_whatever_is_written_is_a_configuration_or_a_list_of_problems(
    place: tuple[str | int, ...], value: object
) -> None:
    tree = yaml.safe_load(BASE) | {"auth": {}}
    parent = tree
    for part in place[:-1]:
        parent = parent[part]
    parent[place[-1]] = value
    told = problems(yaml.safe_dump(tree))
    assert all(re.match(r"line \d+: ", line) for line in told), told

"""Which edits a running proxy takes, and which need a restart."""

from __future__ import annotations

import pytest

from proxy.config import Config, Route, changed, located
from proxy.config.changes import LIVE, LIVE_IN_A_ROUTE
from tests.unit.config.texts import BASE, parsed

SECOND = "  - {name: more, collections: [more], source: old, target: third}\n"

LIVE_EDITS = [
    "    reads: {weight: 25, sticky: client, max_lag_keys: 5}\n",
    "    rules: [{when: {operations: [count]}, read: source}]\n",
    "    shadow: {sample_percent: 5}\n",
    "    writes: {policy: both}\n",
    "    tenant_field: group\n",
    "    backfill: {requests_per_second: 3}\n",
    "auth: {mode: keys, keys: [one, two]}\n",
    "logging: {level: debug}\n",
]
RESTARTS = [
    (BASE.replace("127.0.0.1:6333", "127.0.0.1:6339"), "listeners changed, and needs a restart: the sockets are open"),
    (BASE + "data_dir: /elsewhere\n", "data_dir changed, and needs a restart: the journal in it is open"),
    (BASE + "control: {token: a}\n", "control changed, and needs a restart: its socket is open"),
    (BASE + 'probes: {address: "127.0.0.1:1"}\n', "probes changed, and needs a restart: its socket is open"),
    (
        BASE.replace("new.example", "other.example").replace("third:", "fourth:"),
        "stores.new, stores.third, stores.fourth changed, and needs a restart: stores are connected once, at start",
    ),
    (BASE + "unknown_collections: refuse\n", "unknown_collections changed, and needs a restart: it decides which"),
    (BASE + "default_source: old\n", "default_source changed, and needs a restart: requests that belong to no route"),
    (BASE + SECOND, "the routes were docs and are docs, more, which needs a restart"),
    (BASE.replace("target: new", "target: third"), "target of the route docs changed, and needs a restart"),
    (BASE.replace("source: old", "source: third"), "source of the route docs changed, and needs a restart"),
    (BASE.replace("[docs]", "[docs, dogs]"), "collections of the route docs changed, and needs a restart"),
    (BASE + "    names: {docs: docs_2}\n", "names of the route docs changed, and needs a restart"),
    (BASE + "    replication: {hint_bytes: 0}\n", "replication of the route docs changed, and needs a restart"),
]


@pytest.mark.parametrize("edit", LIVE_EDITS)
def test_taken_while_running(edit: str) -> None:
    new = parsed(BASE + edit)
    assert new != parsed(BASE)
    assert changed(parsed(BASE), new) == ()


@pytest.mark.parametrize(("text", "sentence"), RESTARTS)
def test_needs_a_restart(text: str, sentence: str) -> None:
    (told,) = changed(parsed(BASE), parsed(text))
    assert told.sentence.startswith(sentence)


def test_the_order_of_routes_is_a_change() -> None:
    first, second = BASE + SECOND, BASE.replace("routes:\n", "routes:\n" + SECOND)
    assert changed(parsed(first), parsed(first)) == ()
    (told,) = changed(parsed(first), parsed(second))
    assert told == (
        ("routes",),
        "the routes were docs, more and are more, docs, which needs a restart: routes and their order decide which "
        "writes are journalled",
    )


def test_every_change_is_told_also_beside_live_ones() -> None:
    new = parsed(BASE.replace("[docs]", "[dogs]") + "    reads: {weight: 3}\ndata_dir: /elsewhere\n")
    assert [change.sentence.split(" changed")[0] for change in changed(parsed(BASE), new)] == [
        "data_dir",
        "collections of the route docs",
    ]


def test_a_changed_secret_is_seen_and_not_shown() -> None:
    def with_key(key: str) -> Config:
        return parsed(BASE.replace('old.example:6333"', f'old.example:6333", api_key: {key}'))

    (told,) = changed(with_key("hush-1"), with_key("hush-2"))
    assert told.sentence == "stores.old changed, and needs a restart: stores are connected once, at start"


def test_what_is_live_exists() -> None:
    assert set(Route.model_fields) >= LIVE_IN_A_ROUTE
    assert set(Config.model_fields) >= LIVE


def test_a_change_is_told_with_its_line() -> None:
    text = "# more\n" + BASE.replace("[docs]", "[docs, dogs]").replace("127.0.0.1:6333", "127.0.0.1:6339")
    told = located(text, changed(parsed(BASE), parsed(text))).splitlines()
    assert [sentence.split(" changed")[0] for sentence in told] == [
        "line 3: listeners",
        "line 11: collections of the route docs",
    ]
    assert "dogs" in text.splitlines()[10]

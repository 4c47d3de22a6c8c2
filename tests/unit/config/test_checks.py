"""Problems between sections: each is told, on its line, and what is right is not."""

from __future__ import annotations

import pytest

from tests.unit.config.texts import BASE, parsed, problems

SECOND = """\
  - name: more
    collections: [more]
    source: old
    target: third
"""


def edited(*changes: tuple[str, str], more: str = "") -> str:
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text + more


def listening(*addresses: str, more: str = "") -> str:
    entries = "".join(
        f'  - {{name: l{number}, vendor: qdrant, transport: http, address: "{address}"}}\n'
        for number, address in enumerate(addresses)
    )
    line = BASE.splitlines(keepends=True)[2]
    return BASE.replace(line, entries) + more


BEYOND = "auth: {mode: keys, keys: [a]}\n"
WRONG: list[tuple[str, str]] = [
    # names
    (
        edited(more=SECOND.replace("more", "docs", 1)),
        'line 13: routes[1].name: "docs" is the name of routes[0] already',
    ),
    (
        edited(
            (
                "  - {name: rest",
                '  - {name: rest, vendor: qdrant, transport: grpc, address: "[::1]:1"}\n  - {name: rest',
            )
        ),
        'line 4: listeners[1].name: "rest" is the name of listeners[0] already',
    ),
    (edited(("name: rest", "name: 'a b'")), 'line 3: listeners[0].name: "a b" is not a name: a letter or digit, then'),
    (
        edited(("  third:", "  'th ird':")),
        'line 7: stores.th ird: "th ird" is not a name: a letter or digit, then up to',
    ),
    # addresses
    (
        listening("127.0.0.1:1", "127.0.0.1:1"),
        "line 4: listeners[1].address: 127.0.0.1:1 is the address of listeners[0]",
    ),
    (
        listening("localhost:1", "127.0.0.1:1"),
        "line 4: listeners[1].address: 127.0.0.1:1 is the address of listeners[0]",
    ),
    (listening("0.0.0.0:1", "127.0.0.1:1", more=BEYOND), "line 4: listeners[1].address: 127.0.0.1:1 is the address of"),
    (listening("127.0.0.1:7700"), "line 1: control.address: 127.0.0.1:7700 is the address of listeners[0] already"),
    (edited(more='probes: {address: "0.0.0.0:6333"}\n'), "line 13: probes.address: 0.0.0.0:6333 is the address of"),
    (
        edited(("http://old.example:6333", "http://localhost:6333")),
        "line 3: listeners[0].address: 127.0.0.1:6333 is the address of the store `old`; the proxy would talk to",
    ),
    # who may connect
    (
        listening("0.0.0.0:6333"),
        "line 3: listeners[0].address: 0.0.0.0:6333 is beyond loopback, but `auth.mode` is none: an answer from the "
        "other store never shows it the client's key, so anybody who reaches this address could read everything; set "
        "`auth.mode` to keys or ask-primary, or listen on 127.0.0.1",
    ),
    (listening("proxy.example:6333"), "line 3: listeners[0].address: proxy.example:6333 is beyond loopback"),
    (edited(more="auth: {mode: keys}\n"), "line 13: auth.keys: is empty, but `auth.mode` is keys"),
    (edited(more="auth: {mode: keys, keys: ['', '']}\n"), "line 13: auth.keys: is empty, but `auth.mode` is keys"),
    (edited(more="auth: {keys: [a]}\n"), "line 13: auth.keys: is only used with `mode: keys`, not with none"),
    (
        edited(("source: old", "source: third"), more="auth: {mode: ask-primary}\n"),
        "line 13: auth.mode: ask-primary has nobody to ask: the store `third` (memory) checks no keys; use keys",
    ),
    # stores of routes
    (
        edited(("target: new", "target: old")),
        'line 12: routes[0].target: "old" is the source too; a route moves from one',
    ),
    (
        edited(("target: new", "target: gone")),
        'line 12: routes[0].target: "gone" is not a store; there are: old, new, third',
    ),
    (
        edited(("source: old", "source: new"), ("target: new", "target: old")),
        "line 11: routes[0].source: `new` (milvus) cannot answer the qdrant clients of the listeners",
    ),
    (
        edited(('{kind: milvus, address: "new.example:19530"}', '{kind: qdrant, url: "http://old.example"}')),
        "line 12: routes[0].target: `old` and `new` are the same database, and `docs` has the same name in both; give",
    ),
    # patterns and names
    (
        edited(more=SECOND.replace("[more]", "[more, docs]")),
        'line 14: routes[1].collections[1]: "docs" stands in routes[0]',
    ),
    (edited(("[docs]", "[docs, docs]")), 'line 10: routes[0].collections[1]: "docs" stands in routes[0] already'),
    (
        edited(("[docs]", "['*']"), more=SECOND),
        'line 14: routes[1].collections[0]: "more" is never reached, because routes[0] has "*"; move it up',
    ),
    (
        edited(more="    names: {dogs: hounds}\n"),
        "line 13: routes[0].names.dogs: no pattern of `collections` matches dogs",
    ),
    (
        edited(("[docs]", "[docs, dogs]"), more="    names: {docs: dogs}\n"),
        'line 10: routes[0].collections[1]: "dogs" in `new` is the copy of docs already',
    ),
    (
        edited(("[docs]", "[my-docs]")),
        'line 10: routes[0].collections[0]: "my-docs" is not a name that Milvus takes (letters, digits, _); give',
    ),
    (
        edited(more="    names: {docs: 9docs}\n"),
        'line 13: routes[0].names.docs: "9docs" is not a name that Milvus takes',
    ),
    # tenants
    (
        edited(more="    reads: {sticky: tenant}\n"),
        "line 13: routes[0].reads.sticky: tenant needs the route's `tenant_field`",
    ),
    (
        edited(more="    rules:\n      - {when: {tenants: [a]}, read: target}\n"),
        "line 14: routes[0].rules[0].when.tenants: needs the route's `tenant_field`",
    ),
    # rules
    (
        edited(more="    rules: [{when: {share: 5}}]\n"),
        "line 13: routes[0].rules[0]: needs exactly one of `read` and `weight`",
    ),
    # unknown collections
    (edited(more="unknown_collections: mirror\n"), "line 13: unknown_collections: mirror needs `default_route`"),
    (edited(more="default_route: docs\n"), "line 13: default_route: is only used with `unknown_collections: mirror`"),
    (
        edited(more="unknown_collections: mirror\ndefault_route: dogs\n"),
        'line 14: default_route: "dogs" is not a route; there are: docs',
    ),
    (
        edited(more="default_source: gone\n"),
        'line 13: default_source: "gone" is not a store; there are: old, new, third',
    ),
    (edited(more="default_source: new\n"), "line 13: default_source: `new` (milvus) cannot answer the qdrant clients"),
    (
        edited(more=SECOND.replace("old", "x").replace("third", "old").replace("x", "third")),
        "line 1: default_source: is missing: routes have no common source",
    ),
    (BASE.partition("routes:")[0], "line 1: default_source: is missing: routes have no common source"),
]


@pytest.mark.parametrize(("text", "problem"), WRONG, ids=[problem.partition(": ")[2][:60] for _, problem in WRONG])
def test_what_does_not_fit_together_is_the_one_problem(text: str, problem: str) -> None:
    told = problems(text)
    assert len(told) == 1, told
    assert told[0].startswith(problem)


@pytest.mark.parametrize(
    "text",
    [
        edited(more=SECOND),
        edited(("[docs]", "['docs*']"), more=SECOND.replace("[more]", "['doc*', '*']")),
        listening("127.0.0.1:0", "127.0.0.1:0"),
        listening("127.0.0.1:1", "127.0.0.2:2", "[::1]:3", "localhost:4"),
        listening("0.0.0.0:6333", more=BEYOND),
        listening("0.0.0.0:6333", more="auth: {mode: ask-primary}\n"),
        edited(more="auth: {mode: keys, keys: [a, '']}\n"),
        edited(more='probes: {address: "0.0.0.0:7701"}\n'),
        edited(("[docs]", "[my-docs]"), more="    names: {my-docs: my_docs}\n"),
        edited(("[docs]", "['my-*']")),
        edited(more="    tenant_field: group\n    reads: {sticky: tenant}\n"),
        edited(more="unknown_collections: mirror\ndefault_route: docs\n"),
        edited(more="unknown_collections: refuse\n"),
        BASE.partition("routes:")[0] + "default_source: old\n",
        edited(
            ('{kind: milvus, address: "new.example:19530"}', '{kind: qdrant, url: "http://old.example:6333"}'),
            more="    names: {docs: docs_2}\n",
        ),
    ],
)
def test_what_fits_is_taken(text: str) -> None:
    assert problems(text) == []


def test_a_wrong_section_causes_no_problems_elsewhere() -> None:
    assert problems(edited(("kind: milvus, address", "kind: milvus, adr"))) == [
        "line 6: stores.new.address: is missing: gRPC address, host:port",
        "line 6: stores.new.adr: unknown key; did you mean `address`?",
    ]
    assert problems(listening("0.0.0.0:1", more="auth: {mode: 5}\n")) == [
        "line 13: auth.mode: 5 is not one of none, keys, ask-primary"
    ]
    assert problems(edited(more="    tenant_field: 5\n    reads: {sticky: tenant}\n")) == [
        "line 13: routes[0].tenant_field: 5 is not text; put it in quotes"
    ]
    assert problems(edited(("name: docs", "nam: docs"), more="unknown_collections: mirror\ndefault_route: docs\n")) == [
        "line 9: routes[0].nam: unknown key; did you mean `name`?",
        "line 9: routes[0].name: is missing: Name of the route in commands, logs and metrics",
    ]


def test_header_names_have_no_case() -> None:
    rule = "    reads: {sticky: 'header:X-User'}\n    rules: [{when: {headers: {X-Canary: 'Yes'}}, read: target}]\n"
    route = parsed(edited(more=rule)).routes[0]
    assert route.reads.sticky_header == "x-user"
    assert route.rules[0].when.headers == {"x-canary": "Yes"}


def test_a_store_of_one_process_cannot_have_several_workers() -> None:
    """BASE has one in memory."""
    told = "lives in one process, and `workers` is 2; set it to 1"
    assert any(told in problem for problem in problems("workers: 2\n" + BASE))
    assert problems("workers: 1\n" + BASE) == []
    assert problems("workers: 2\n" + BASE.replace("  third: {kind: memory}\n", "")) == []


def test_authorities_are_for_connections_that_are_encrypted() -> None:
    added = "stores:\n  far: {kind: qdrant, url: 'URL', ca: c}\n  wide: {kind: milvus, address: 'h:1', tls: TLS, ca: c}"
    for url, tls, count in (("http://h", "false", 2), ("https://h:6333", "true", 0)):
        text = BASE.replace("stores:", added.replace("URL", url).replace("TLS", tls), 1)
        assert sum("is of no use without" in problem for problem in problems(text)) == count

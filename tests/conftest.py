"""Shared fixtures; each module of tests/support brings its own."""

pytest_plugins: list[str] = [
    "tests.support.milvus_engines",
    "tests.support.qdrant_engines",
    "tests.support.qdrant_clients",
    "tests.support.contract_stores",
    "tests.support.migration",
    "tests.support.event_loops",
]

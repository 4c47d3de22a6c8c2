"""The examples are valid, for the schema too; and what is made from the code is up to date."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from proxy.config import json_schema
from tests.support.config_reference import DOCS_FILE, ROOT, SCHEMA_FILE, docs_text, schema_text
from tests.unit.config.texts import BASE, parsed

EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))
ENVIRONMENT = {"QDRANT_API_KEY": "a", "QDRANT_CLOUD_API_KEY": "b", "APPLICATION_KEY": "c"}
FILES = {f"/var/run/secrets/crossfade/{name}": "secret\n" for name in ("qdrant-api-key", "milvus-token")}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_an_example_is_valid_and_commented(path: Path) -> None:
    text = path.read_text("utf-8")
    config = parsed(text, ENVIRONMENT, FILES)
    assert config.routes
    assert text.startswith("# yaml-language-server: $schema=crossfade.schema.json\n#\n# ")
    jsonschema.validate(yaml.safe_load(text), json_schema())


def test_there_is_an_example_per_use() -> None:
    assert {path.stem for path in EXAMPLES} == {
        "kubernetes",
        "qdrant-to-milvus",
        "qdrant-to-qdrant",
        "rules",
        "shadow-only",
    }


def test_the_schema_refuses_what_parse_refuses() -> None:
    jsonschema.validate(yaml.safe_load(BASE), json_schema())
    for wrong in ("reads: {weight: 125}", "reads: {weight: '25'}", "redas: {}", "writes: {policy: two}"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(BASE + f"    {wrong}\n"), json_schema())


def test_the_schema_describes_every_key() -> None:
    sections = [json_schema(), *json_schema()["$defs"].values()]
    for section in sections:
        assert section["description"]
        for key, place in section["properties"].items():
            assert place.get("description"), key


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    """If not: python -m tests.support.config_reference"""
    assert SCHEMA_FILE.read_text("utf-8") == schema_text()
    assert DOCS_FILE.read_text("utf-8") == docs_text()


def test_the_pages_smallest_file_works() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS_FILE.read_text("utf-8"), re.DOTALL)
    assert parsed(text).routes[0].name == "docs"

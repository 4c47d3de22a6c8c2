"""The Dockerfile and the chart, read as text: there is no engine or cluster to run them here."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config import Control, parse

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "crossfade"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


# --- Dockerfile ------------------------------------------------------------------------------


@dataclass
class Stage:
    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [rest for step, rest in self.steps if step == instruction]

    def last(self, instruction: str) -> str:
        return self.all(instruction)[-1]


def stages() -> list[Stage]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: list[Stage] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, rest = line.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].steps.append((instruction, rest))
    return found


def test_the_program_is_built_in_one_stage_and_runs_in_another() -> None:
    build, final = stages()
    assert build.base == final.base == "python:3.11-slim", "a copied environment needs the same interpreter"
    assert [f"--from={build.name} /opt/crossfade /opt/crossfade"] == final.all("COPY")


def test_everything_from_an_index_has_its_hash_in_the_lock() -> None:
    build, final = stages()
    commands = [one.strip() for run in build.all("RUN") for one in run.split("&&")]
    for command in commands:
        if re.search(r"pip\b.* (install|wheel|download)\b", command) and not command.endswith(" ."):
            assert "--require-hashes" in command or "--no-index" in command, command
    assert "--require-hashes" in next(command for command in commands if " pip " in command)
    assert not re.search(r"\b(pip|apt|apt-get|gcc|make|curl)\b", " ".join(final.all("RUN")))


def test_the_compiled_form_is_what_runs() -> None:
    build, _ = stages()
    commands = [one.strip() for run in build.all("RUN") for one in run.split("&&")]
    assert any(command.startswith("apt-get install ") and " gcc " in command for command in commands)
    [built] = [command for command in commands if command.endswith(" .")]
    assert built.startswith("HATCH_BUILD_HOOK_ENABLE_MYPYC=1 python -m pip wheel ")
    assert "--no-build-isolation" not in built, "what the hook needs comes with isolation"
    assert "--no-index --find-links /wheels " in built, "and that from the wheels with a hash"


def test_it_runs_as_nobody_in_particular() -> None:
    _, final = stages()
    user = final.last("USER").partition(":")[0]
    assert user.isdecimal(), "Kubernetes can only check a number for runAsNonRoot"
    assert int(user) > 0
    instructions = [step for step, _ in final.steps]
    assert instructions.index("USER") < instructions.index("ENTRYPOINT")


def test_it_starts_the_proxy_and_keeps_its_data_in_a_volume() -> None:
    _, final = stages()
    assert json.loads(final.last("ENTRYPOINT")) == ["crossfade"]
    assert json.loads(final.last("CMD")) == ["serve"]
    assert json.loads(final.last("VOLUME")) == [final.last("WORKDIR")]
    assert {"6333", "6334"} <= set(final.last("EXPOSE").split())


def test_the_health_check_asks_the_control_port_with_the_standard_library_alone() -> None:
    _, final = stages()
    python, flag, code = json.loads(final.last("HEALTHCHECK").partition("CMD ")[2])
    assert (python, flag) == ("python", "-c")
    compile(code, "healthcheck", "exec")
    assert f"http://{Control().address}/livez" in code
    assert "proxy" not in code
    assert "timeout=" in code


def test_what_is_copied_is_there_and_not_ignored() -> None:
    build, _ = stages()
    ignored = (ROOT / ".dockerignore").read_text().split()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    for copied in build.all("COPY"):
        *sources, _ = shlex.split(copied)
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source.removeprefix("./"), pattern) for pattern in kept), source


# --- chart -----------------------------------------------------------------------------------


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return loaded


def templates() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}


def paths(node: Any, path: str = "") -> Iterator[str]:
    """`a`, `a.b`, ... of every mapping in the values."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{path}{key}"
        yield from paths(value, f"{path}{key}.")


def test_the_chart_describes_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["apiVersion"], chart["name"], chart["appVersion"]) == ("v2", "crossfade", VERSION)


def test_its_configuration_is_valid_and_fits_its_ports() -> None:
    given = values()
    config = parse(yaml.safe_dump(given["config"]), {}, lambda name: Path(name).read_text())
    listened = {listener.name: int(listener.address.rpartition(":")[2]) for listener in config.listeners}
    assert given["service"]["ports"] == listened
    assert config.control.address == Control().address
    deployment = templates()["deployment.yaml"]
    assert config.probes.address == "0.0.0.0:7701"
    assert "containerPort: 7701" in deployment
    assert f"mountPath: {config.data_dir}\n" in deployment


def test_templates_use_values_that_exist_and_all_of_them() -> None:
    known = set(paths(values()))
    used = {use for text in templates().values() for use in re.findall(r"\.Values\.([A-Za-z.]+)", text)}
    assert used <= known
    top = {use.partition(".")[0] for use in used}
    assert top == set(values())


def test_every_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r"[A-Za-z]+:", line) and line.partition(":")[0] not in (
            "podLabels",
            "nodeSelector",
            "tolerations",
            "affinity",  # one comment above the group
        ):
            assert before.startswith("#"), line


@pytest.mark.parametrize("name", sorted(templates()))
def test_blocks_are_closed(name: str) -> None:
    text = templates()[name]
    assert text.count("{{") == text.count("}}")
    opened = len(re.findall(r"\{\{-? *(?:if|with|range|define)\b", text))
    assert opened == len(re.findall(r"\{\{-? *end\b", text))


def test_one_pod_at_a_time_owns_the_journal() -> None:
    deployment = templates()["deployment.yaml"]
    assert "replicas: 1\n" in deployment
    assert "type: Recreate" in deployment
    assert "helm.sh/resource-policy: keep" in templates()["pvc.yaml"]


def test_the_configuration_is_mounted_as_a_directory() -> None:
    deployment = templates()["deployment.yaml"]
    assert "mountPath: /etc/crossfade\n" in deployment
    assert "subPath" not in deployment, "a file mounted by itself never changes in a running pod"


def test_the_pod_may_do_little() -> None:
    deployment = templates()["deployment.yaml"]
    for line in ("runAsNonRoot: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false"):
        assert line in deployment

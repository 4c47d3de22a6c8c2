"""Edits of the configuration of a proxy that runs, and certificates that are replaced; each has to be seen taken.

An edit changes what may change while the proxy runs (docs/configuration.md): weight, stickiness and bounds of the
reads, a rule, how long a write waits for the secondary. Now and then it is one with a mistake: that has to be refused,
and said so. Taken is what every process counts as taken (`crossfade_config_reloads_total`), with the weight that
`status` tells.
"""

from __future__ import annotations

import copy
import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme
import yaml
from prometheus_client.parser import text_string_to_metric_families

from examples.demo.processes import Proxy
from examples.engines import poll
from proxy.errors import CrossfadeError

_SOON_SECONDS = 5.0
_EVERY_SECONDS = (5.0, 20.0)
EDITS = ("weight", "rule", "stickiness", "lag", "wait", "mistake", "certificate")
_SCROLLS_STAY: dict[str, Any] = {"when": {"operations": ["scroll"]}, "read": "source"}


def moments(seconds: float, chance: random.Random) -> Iterator[tuple[float, str]]:
    """When an edit is made, in seconds from the start, and which: each kind once before one comes again."""
    at, left = 0.0, list[str]()
    while (at := at + chance.uniform(*_EVERY_SECONDS)) < seconds:
        left = left or chance.sample(EDITS, len(EDITS))
        yield at, left.pop()


def edited(configuration: dict[str, Any], edit: str, chance: random.Random) -> dict[str, Any]:
    """With something else than before; the same apart from it."""
    new = copy.deepcopy(configuration)
    route = new["routes"][0]
    reads, writes = route.setdefault("reads", {}), route.setdefault("writes", {})
    match edit:
        case "weight":
            reads["weight"] = chance.choice([percent for percent in (0, 2, 5, 10) if percent != reads.get("weight", 0)])
        case "rule":
            route["rules"] = [] if route.get("rules") else [_SCROLLS_STAY]
        case "stickiness":
            reads["sticky"] = "none" if reads.get("sticky") == "client" else "client"
        case "lag":
            reads["max_lag_keys"] = reads.get("max_lag_keys", 1000) + chance.randrange(1, 100)
        case "wait":
            writes["secondary_wait_ms"] = writes.get("secondary_wait_ms", 500) + chance.randrange(1, 100)
        case "mistake":
            reads["weight"] = 125
    return new


class Authority:
    """Issues the certificate of the listener with TLS."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._issuer = trustme.CA()
        self.certificate, self.key, self.root = (directory / name for name in ("tls.crt", "tls.key", "ca.pem"))
        self._issuer.cert_pem.write_to_path(str(self.root))
        self.issued = b""
        self.issue()

    def issue(self) -> None:
        """Another one, each file replaced as a whole."""
        new = self._issuer.issue_cert("localhost", "127.0.0.1")
        self.issued = ssl.PEM_cert_to_DER_cert(new.cert_chain_pems[0].bytes().decode())
        for pem, file in ((new.private_key_pem, self.key), (new.cert_chain_pems[0], self.certificate)):
            written = file.with_suffix(".new")
            pem.write_to_path(str(written))
            written.replace(file)

    def is_shown(self, address: str) -> bool:
        """Whether who connects there is shown the latest."""
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context(cafile=self.root)
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            return encrypted.getpeercert(binary_form=True) == self.issued


class Editor:
    """Of the configuration of a proxy that runs with `workers` processes."""

    def __init__(self, proxy: Proxy, tls_address: str, authority: Authority, workers: int, seed: int) -> None:
        self._proxy = proxy
        self._tls_address = tls_address
        self._authority = authority
        self._workers = workers
        self._chance = random.Random(f"edits {seed}")
        self._configuration: dict[str, Any] = yaml.safe_load(proxy.config.read_text())

    def make(self, edit: str) -> str:
        """Returns what was wrong with it; "" if it was taken, or refused as it should be."""
        try:
            match edit:
                case "certificate":
                    return self._replace_certificate()
                case "mistake":
                    return self._mistake()
                case _:
                    return self._change(edit)
        except (CrossfadeError, OSError) as error:
            return f"{edit}: {type(error).__name__}: {error}"

    def _change(self, edit: str) -> str:
        before = self._reloads("taken")
        self._configuration = edited(self._configuration, edit, self._chance)
        self._write(self._configuration)
        if not poll(lambda: self._is_taken(before), _SOON_SECONDS):
            return (
                f"an edit ({edit}) was not taken within {_SOON_SECONDS:g} s: {self._reloads('taken')}, {before} before"
            )
        return ""

    def _is_taken(self, before: dict[str, float]) -> bool:
        taken, status = self._reloads("taken"), self._proxy.control.status()
        return (
            len(taken) == self._workers
            and all(count > before.get(worker, 0.0) for worker, count in taken.items())
            and not status.config_problem
            and status.routes[0].weight.effective == self._configuration["routes"][0]["reads"].get("weight", 0)
        )

    def _mistake(self) -> str:
        before, taken = self._reloads("refused"), self._reloads("taken")
        self._write(edited(self._configuration, "mistake", self._chance))
        refused = poll(
            lambda: (
                sum(self._reloads("refused").values()) > sum(before.values())
                and "125" in self._proxy.control.status().config_problem
            ),
            _SOON_SECONDS,
        )
        was_taken = self._reloads("taken") != taken
        self._write(self._configuration)
        if was_taken:
            return "an edit with a mistake was taken"
        if not refused:
            return f"an edit with a mistake was not refused within {_SOON_SECONDS:g} s"
        if not poll(lambda: not self._proxy.control.status().config_problem, _SOON_SECONDS):
            return "the right text was not taken again after one with a mistake"
        return ""

    def _replace_certificate(self) -> str:
        self._authority.issue()
        tries = range(1 if self._workers == 1 else 4 * self._workers)  # each worker looks for itself
        if not poll(lambda: all(self._authority.is_shown(self._tls_address) for _ in tries), _SOON_SECONDS):
            return f"a new certificate was not shown within {_SOON_SECONDS:g} s"
        return ""

    def _write(self, configuration: dict[str, Any]) -> None:
        written = self._proxy.config.with_suffix(".new")
        written.write_text(yaml.safe_dump(configuration, sort_keys=False))
        written.replace(self._proxy.config)

    def _reloads(self, outcome: str) -> dict[str, float]:
        """How often so far, by worker."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self._proxy.control.metrics()):
            for sample in family.samples:
                if sample.name == "crossfade_config_reloads_total" and sample.labels.get("outcome") == outcome:
                    found[sample.labels.get("worker", "0")] = sample.value
        return found

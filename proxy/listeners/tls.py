"""TLS of a listener: its certificate, which may be replaced while the program runs.

The files are looked at when somebody connects, at most once a second. A pair that cannot be loaded (half replaced, say)
changes nothing: the one before goes on being shown, and the log tells.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

from proxy.errors import ConfigError

_LOOK_SECONDS = 1.0
_log = logging.getLogger("crossfade.listeners.tls")


class Certificate:
    """certificate: PEM, its chain included; key: PEM, without a passphrase. protocols: what is spoken (ALPN).

    Raises ConfigError if they cannot be loaded.
    """

    def __init__(self, certificate: Path, key: Path, protocols: Sequence[str]) -> None:
        self._files = (certificate, key)
        self._protocols = list(protocols)
        self._looked_at = time.monotonic()
        try:
            self._seen = self._stamps()
            self._context = self._load()
        except OSError as error:
            raise ConfigError(
                f"the certificate {certificate} with the key {key} cannot be used: {error}; expected both in PEM, and "
                f"that they belong together"
            ) from error

    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._renew()
        return self._context

    def _renew(self) -> None:
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return
            self._seen = stamps
            self._context = self._load()
        except OSError as error:
            words = {"path": str(self._files[0]), "error": error}
            _log.error("the new certificate cannot be used, and the one before is shown on", extra=words)
            return
        _log.info("a new certificate is shown", extra={"path": str(self._files[0])})

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(self._protocols)
        context.load_cert_chain(*self._files, password=lambda: "")  # never asks at a terminal
        return context

    def _stamps(self) -> list[tuple[int, int, int]]:
        found = [file.stat() for file in self._files]
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]

"""Whom a connection to a store trusts, and what it agrees on."""

from __future__ import annotations

import ssl

from proxy.errors import ConfigError


def trusting(authorities: str | None, protocol: str) -> ssl.SSLContext:
    """For a server whose certificate one of the authorities in that file has signed, which is PEM; None: those that the
    system trusts. `protocol`: of ALPN. Raises ConfigError if the file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:  # an SSLError is one
        raise ConfigError(f"the authorities in {authorities} cannot be used: {error.strerror or error}") from error
    context.set_alpn_protocols([protocol])
    return context

"""The token that guards the control API: from the configuration, or made once and kept in data_dir.

The file is created with mode 0600 in one step, so it is never readable by others, not even for a moment.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from proxy.errors import ConfigError

FILE_NAME = "control.token"
_TOKEN_BYTES = 32


def load_or_create(data_dir: Path) -> str:
    """The token in `data_dir`, made if there is none. Raises ConfigError if it cannot be read or made."""
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _create(path, secrets.token_urlsafe(_TOKEN_BYTES))
        return _read(path)
    except OSError as error:
        raise ConfigError(f"cannot keep the control token in {path}: {error.strerror}; check data_dir") from error


def load(data_dir: Path) -> str:
    """The token that a running proxy made in `data_dir`. Raises ConfigError if there is none."""
    path = data_dir / FILE_NAME
    try:
        return _read(path)
    except OSError as error:
        raise ConfigError(
            f"cannot read the control token {path}: {error.strerror}; is `crossfade serve` running with this "
            f"configuration? Else give --token or set CROSSFADE_TOKEN"
        ) from error


def matches(authorization: str | None, token: str) -> bool:
    """Whether the header is `Bearer TOKEN`; takes the same time for every wrong token of a length."""
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def _create(path: Path, token: str) -> None:
    """Raises FileExistsError if it is there. A crash leaves the whole file or none."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(token + "\n")
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def _read(path: Path) -> str:
    token = path.read_text(encoding="ascii").strip()
    if not token:
        raise ConfigError(f"the control token {path} is empty; delete the file and start the proxy again")
    return token

"""The configuration file, followed while the proxy runs.

An edit is live within a second: the directory of the file is watched, which also sees the file replaced by
a rename and the swapped symlink of a Kubernetes ConfigMap; and twice a second the contents are compared
anyway, for file systems that tell nothing and links that lead elsewhere. Files named by `${file:/path}`
count as part of it. SIGHUP reads everything again.

A text with a problem, or with a change that needs a restart, changes nothing at all: it is logged, and
`refused` says why until a text is taken. The same goes for one that sets `auth.mode: ask-primary` where nobody can be
asked any more. Where that is in force already (a restart came to it), later edits are not held up by it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Collection
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from proxy.config import Config, changed, located, parse
from proxy.errors import ConfigError

_log = logging.getLogger("crossfade.config")

LOOK_EVERY_MS = 500
SETTLE_MS = 300  # changes that follow each other are taken together, for at most this long

Applied = Callable[[Config, Config], None]
Refused = Callable[[str], None]
Moved = Callable[[], Collection[str]]


class _Sources:
    """The text of the configuration file, and of the files it names, as they were read last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: dict[str, str] = {}
        self.text = ""

    def load(self, moved: Collection[str] = (), text: str | None = None) -> Config:
        """Raises ConfigError. `moved`: as of `parse`. `text`: instead of what the file says."""
        self._named = {}
        try:
            self.text = self._path.read_text("utf-8") if text is None else text
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self._path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
        return parse(self.text, os.environ, self._read_named, moved)

    def changed(self) -> bool:
        """Whether something reads otherwise now. A file that is not there for a moment has not changed."""
        try:
            return self._path.read_text("utf-8") != self.text or any(
                Path(name).read_text("utf-8") != text for name, text in self._named.items()
            )
        except OSError:
            return False
        except UnicodeDecodeError:
            return True

    def _read_named(self, name: str) -> str:
        self._named[name] = ""  # also while it cannot be read, so that it is seen to appear
        self._named[name] = Path(name).read_text("utf-8")
        return self._named[name]


class LiveConfig:
    """The configuration in force, and the file that it follows.

    `config` is what is in force; `refused` is why the newest text is not, or None.
    """

    def __init__(
        self, path: Path, applied: Applied, refused: Refused, moved: Moved = tuple, text: str | None = None
    ) -> None:
        """Reads the file, unless its `text` is given; raises ConfigError. On the event loop's thread,
        `applied(old, new)` is called for every later text that is taken, before `config` shows it, and `refused(why)`
        for every one that is not. `moved()` names the routes whose primary is the target."""
        self._sources = _Sources(path)
        self._path = path
        self._applied = applied
        self._refused = refused
        self._moved = moved
        self.config = self._sources.load(text=text)
        self.text = self._sources.text  # of what is in force
        self.refused: str | None = None

    async def follow(self) -> None:
        """Take edits until cancelled. Only on the main thread, where signals arrive."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.look, True)
        looks = awatch(
            self._path.absolute().parent,
            watch_filter=None,
            debounce=SETTLE_MS,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        try:
            async with aclosing(looks):
                async for _ in looks:
                    self.look()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def look(self, even_if_unchanged: bool = False) -> None:
        """Take what the file says now, if it says something else than when it was looked at last."""
        if even_if_unchanged or self._sources.changed():
            self.take(None)

    def take(self, text: str | None) -> None:
        """Take `text`; None: what the file says."""
        try:
            new = self._sources.load(() if self.config.auth.mode == "ask-primary" else self._moved(), text)
        except ConfigError as error:
            self._refuse(str(error))
            return
        if differences := changed(self.config, new):
            self._refuse(located(self._sources.text, differences))
            return
        self.refused = None
        self.text = self._sources.text
        if new != self.config:
            self._applied(self.config, new)
            self.config = new
            _log.info("configuration taken", extra={"path": str(self._path)})

    def _refuse(self, why: str) -> None:
        self.refused = why
        self._refused(why)
        _log.error("configuration refused, nothing changed", extra={"path": str(self._path), "problems": why})

"""Which release of the program runs, and in which form."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec


def release() -> str:
    """As of PEP 440; its local part is "compiled" where what a request runs through are extensions."""
    return version("crossfade") + ("+compiled" if is_compiled() else "")


def is_compiled() -> bool:
    """Told by one of the modules that always are, if any is."""
    spec = find_spec("proxy.protocols.http1")
    assert spec is not None
    assert spec.origin is not None
    return not spec.origin.endswith(".py")

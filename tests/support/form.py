"""Which form of the program the tests run over (Makefile, FORM)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.release import is_compiled

written_only = pytest.mark.skipif(
    is_compiled(), reason="patches what compiled callers call directly, so it would see nothing"
)


def python_path() -> str:
    """For a process that needs the checkout's packages, and the program in the form that is tested."""
    return os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2]))))

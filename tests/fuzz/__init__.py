"""Fuzzing of what reads a peer's bytes: `make fuzz`. `targets.py` says what must hold of any bytes; `corpus/` has what
real clients and servers sent (`python -m tests.fuzz.record`); tests/unit/test_fuzz_targets.py plays it in CI."""

"""Bytes in, events out; calls in, bytes out: the protocols of our own data plane, without I/O and without a clock."""

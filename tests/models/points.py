"""What the stores of the models hold for a key, and what writes do to it."""

from __future__ import annotations

Value = tuple[int, int] | None  # two fields of a point; None: absent
Op = tuple[str, int]

OLD: Value = (9, 9)  # what a primary held before the migration


def after(op: Op, value: Value) -> Value:
    """What a store holds once it has carried out `op`."""
    kind, x = op
    if kind == "upsert":
        return (x, x)
    if kind == "delete":
        return None
    if kind == "patch":  # sets one field of a point, if there is one
        return None if value is None else (x, value[1])
    if kind == "conditional":  # acts only where the first field is 1
        return (1, x) if value is not None and value[0] == 1 else value
    raise ValueError(kind)


def determines(op: Op) -> bool:
    """Whether the write alone tells what the store holds afterwards: only then may there be a hint."""
    return op[0] in ("upsert", "delete")

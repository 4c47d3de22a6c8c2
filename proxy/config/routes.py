"""Routes: which collections move, from where to where, and who answers their reads and writes.

The primary is deliberately not here: it is moved by a protocol between live processes, not by a file
that each of them reads at its own time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from proxy.config.section import Count, Name, Patterns, Percent, Seconds, Section, Text

ReadKind = Literal["search", "fetch", "scroll", "count"]
HEADER_PREFIX = "header:"


def _sticky(value: str) -> str:
    if value in ("none", "client", "tenant"):
        return value
    header = value.removeprefix(HEADER_PREFIX).strip().lower()
    if not value.startswith(HEADER_PREFIX) or not header:
        raise ValueError("is not none, client, tenant or header:NAME")
    return HEADER_PREFIX + header


def _lower_names(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class Writes(Section):
    """What a write waits for, and what happens when it cannot be journalled."""

    policy: Literal["primary", "both", "both-required"] = Field(
        default="primary",
        description="primary: answer as soon as the primary has; both: wait for the secondary too, then succeed "
        "anyway; both-required: fail if the secondary has not confirmed (the primary keeps the write)",
    )
    secondary_wait_ms: int = Field(
        default=500, ge=1, le=600_000, description="Longest wait for the secondary under both and both-required (ms)"
    )
    on_journal_loss: Literal["refuse", "continue"] = Field(
        default="refuse",
        description="When the journal cannot be written: refuse writes, or go on without it and mark the route as "
        "in need of sweep and verify",
    )


class Reads(Section):
    """Who answers reads that no rule decides."""

    weight: Percent = Field(default=0, description="Percent of the reads that go to the target")
    sticky: Annotated[
        str,
        AfterValidator(_sticky),
        Field(json_schema_extra={"pattern": "^(none|client|tenant|header:.+)$"}),
    ] = Field(
        default="none",
        description="What stays on one side while the weight stands: none (each request by itself), client (its "
        "address), header:NAME (its value), or tenant. Raising the weight moves nobody back",
    )
    max_lag_keys: Count = Field(
        default=1000, description="Reads leave the secondary while more keys than this are behind on it (keys)"
    )
    max_lag_seconds: Seconds = Field(
        default=10, description="Reads leave the secondary while a key has been behind for longer than this (seconds)"
    )

    parked_points: Literal["primary", "leave-out"] = Field(
        default="primary",
        description="While points are parked (the secondary cannot hold them): primary answers searches, scrolls and "
        "counts of their collection; leave-out: the secondary does, without them",
    )

    @property
    def sticky_header(self) -> str | None:
        """The header in lower case, if that is what is sticky."""
        return self.sticky.removeprefix(HEADER_PREFIX) if self.sticky.startswith(HEADER_PREFIX) else None


class When(Section):
    """The conditions of a rule. All that are given must hold; a list holds if one of its entries does."""

    collections: Patterns | None = Field(default=None, description="Patterns of collections or their aliases")
    tenants: Patterns | None = Field(default=None, description="Tenants, exactly; needs the route's `tenant_field`")
    operations: Annotated[tuple[ReadKind, ...], Field(min_length=1)] | None = Field(
        default=None, description="Kinds of reads"
    )
    headers: Annotated[Mapping[str, str], AfterValidator(_lower_names)] | None = Field(
        default=None, description="Headers or gRPC metadata, by name, that have exactly these values"
    )
    share: Percent | None = Field(
        default=None, description="Percent of the requests, chosen by the route's sticky value like the weight"
    )


class Rule(Section):
    """A rule for reads: `when` it applies, and either `read` or `weight`."""

    when: When = Field(default_factory=When, description="The conditions; without any the rule always applies")
    read: Literal["source", "target"] | None = Field(default=None, description="The side that answers")
    weight: Percent | None = Field(default=None, description="Percent of the matching reads that go to the target")

    @model_validator(mode="after")
    def _one_outcome(self) -> Rule:
        if (self.read is None) == (self.weight is None):
            raise ValueError("needs exactly one of `read` and `weight`")
        return self


class Shadow(Section):
    """Reads repeated on the other side, off the client's path, to compare the answers."""

    sample_percent: Percent = Field(default=0, description="Percent of the searches that are repeated")
    max_in_flight: Count = Field(default=8, description="Shadow reads at once; more are not made (requests)")
    keep_worst: int = Field(default=20, ge=0, le=10_000, description="Worst disagreements kept in memory (searches)")
    k: int = Field(default=10, ge=1, le=10_000, description="How many first hits the overlap looks at (hits)")


class Replication(Section):
    """How the secondary is kept the same."""

    reconcile_batch_points: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=256, description="Points that one reconciliation copies at most (points)"
    )
    hint_bytes: int = Field(
        default=64 * 1024 * 1024, ge=0, description="Memory for states that writes left, which save reads (bytes)"
    )
    dirty_cap_keys: Count = Field(
        default=200_000, description="Past this many keys a collection is swept rather than remembered by key (keys)"
    )


class Backfill(Section):
    """How what was there before the proxy is copied."""

    page_points: Annotated[int, Field(ge=1, le=10_000)] = Field(default=256, description="Points of one page (points)")
    requests_per_second: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Bound on pages per second; none if not given"
    )
    target_latency_ms: int = Field(
        default=250, ge=1, le=600_000, description="It slows down while a store takes longer than this for a page (ms)"
    )


class Cutover(Section):
    """Moving the primary: how long writes may be held, and what has to be so before."""

    hold_ms: int = Field(
        default=2000,
        ge=50,
        le=60_000,
        description="Longest time for which new writes are held; past it nothing moves (ms)",
    )
    policy: Literal["primary", "both", "both-required"] = Field(
        default="both-required",
        description="Write policy from cutover until complete: both-required lets no acknowledged write be only on the "
        "target",
    )
    max_lag_keys: Count = Field(default=1000, description="Most dirty keys when it begins (keys)")
    verify_max_age_seconds: Seconds = Field(default=86_400, description="How old the last verify may be (seconds)")
    min_shadow_reads: int = Field(default=100, ge=0, description="Searches that have to be compared before (searches)")
    min_overlap: float = Field(default=0.95, ge=0, le=1, description="Mean overlap@k that they have to reach")


class Route(Section):
    """One migration: collections that move from one store to another."""

    name: Name = Field(description="Name of the route in commands, logs and metrics")
    collections: Patterns = Field(description="Patterns of collections or aliases: `*`, `?`, `[abc]`")
    source: Text = Field(description="Name of the store that has the data")
    target: Text = Field(description="Name of the store that it moves to")
    names: Mapping[str, Text] = Field(
        default_factory=dict, description="Collection in the source: collection in the target; others keep their name"
    )
    tenant_field: Text | None = Field(
        default=None, description="Payload field whose match in a request's filter names the tenant"
    )
    writes: Writes = Field(default_factory=Writes, description="Write policy")
    reads: Reads = Field(default_factory=Reads, description="Read weight, stickiness and bounds of the lag")
    rules: tuple[Rule, ...] = Field(default=(), description="Rules for reads in order; the first that applies decides")
    shadow: Shadow = Field(default_factory=Shadow, description="Shadow reads")
    replication: Replication = Field(default_factory=Replication, description="Replication to the secondary")
    backfill: Backfill = Field(default_factory=Backfill, description="Backfill")
    cutover: Cutover = Field(default_factory=Cutover, description="Moving the primary")

"""Every metric of the program, in one table. docs/metrics.md is this table; a test holds them equal.

`Metrics` is made once by the app and handed to whoever counts; there is no global. Attributes are the
instruments (`metrics.requests.add("rest", "search", ...)`, labels in the order of the table).

What may be a label: the names of listeners, stores and routes (bounded by configuration), operations of
the model, and short stable words. Never a collection, tenant, key or id that a client chose; a request
that no route takes has the route "none".
"""

from __future__ import annotations

from proxy.telemetry.instruments import Counter, Gauge, Histogram, Instrument, Kind, Spec

NO_ROUTE = "none"

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
DIFFERENCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)
RATIOS = (0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)


class Metrics:
    """The table: one line a metric, by the part of the program that counts it."""

    def __init__(self) -> None:
        self._instruments: list[Instrument] = []
        count, gauge, spread = self._counter, self._gauge, self._histogram

        # Requests, as the client sees them. status: ok | refused (the client's fault) | failed.
        self.requests = count(
            "requests",
            "listener operation route answered_by reason status",
            "Requests; answered_by is primary, secondary or proxy, reason is why it was chosen; status 'given up': of a"
            " read whose client had left",
        )
        self.request_seconds = spread(
            "request_duration",
            "operation side",
            "Time of a request: side client is all of it, primary and secondary what that store took",
            SECONDS,
        )
        self.in_flight = gauge("requests_in_flight", "listener", "Requests being answered now")
        self.auth_checks = count(
            "auth_checks", "route outcome", "Client keys checked: accepted, cached, refused, or unchecked (error)"
        )

        # Reads: one count a decision.
        self.reads = count("reads", "route store reason", "Reads by where they went, and why")
        self.primary_only = count(
            "primary_only_reads",
            "route reason",
            "Reads of a kind that only the primary can answer, by kind, of those looked into",
        )
        self.unread = count(
            "reads_passed_unread",
            "route",
            "Reads that moved as bytes; one in 256 that could have, and at most ten a second, was looked into instead",
        )
        self.untranslatable = count(
            "untranslatable",
            "route reason",
            "Reads meant for the secondary that it cannot express, by what was missing",
        )
        self.fallbacks = count(
            "read_fallbacks", "route kind", "Reads asked of the primary after the secondary failed, by kind of failure"
        )

        # Writes. outcome: accepted | untouched | failed | unknown.
        self.writes = count("writes", "route operation outcome", "Writes by what the primary's answer says of them")
        self.lane_wait_seconds = spread(
            "lane_wait", "route", "Time a write waited for earlier ones of its keys", SECONDS
        )
        self.secondary_waits = count(
            "secondary_waits", "route outcome", "Writes that waited for the secondary: confirmed, or late"
        )

        # The journal.
        self.journal_records = count("journal_records", "kind", "Records appended to the journal")
        self.journal_commit_seconds = spread("journal_commit_duration", "", "Time of one durable commit", SECONDS)
        self.journal_batch = spread("journal_batch_records", "", "Records that shared one commit", SIZES)
        self.journal_bytes = gauge("journal_size", "", "Size of the journal on disk", unit="By")
        self.journal_errors = count(
            "journal_errors", "", "Journal operations that failed; writes are refused meanwhile"
        )

        # What the secondary still lacks. state: open | dirty | held | suspect | parked.
        self.keys = gauge("keys", "route state", "Keys that are not clean, by state")
        self.oldest_seconds = gauge(
            "keys_oldest_age", "route", "How long the oldest open, dirty or held key has been so", unit="s"
        )
        self.secondary_readable = gauge(
            "secondary_readable", "route", "1 while the secondary's lag is small enough to read from it"
        )
        self.weight = gauge("read_weight", "route", "Share of reads meant for the target, override included", unit="%")

        # Reconciliation: how the secondary is brought up to date.
        self.hints = count(
            "hints", "route event", "States that writes left for their reconciliation: kept, used, missing, dropped"
        )
        self.hint_bytes = gauge("hints_size", "route", "Memory held by hints", unit="By")
        self.reconcile_batches = count("reconcile_batches", "route outcome", "Batches: clean, dirty again, or held")
        self.reconcile_points = count(
            "reconcile_points", "route action", "Points by what became of them: copied, parked, or left for another try"
        )
        self.reconcile_seconds = spread("reconcile_duration", "route", "Time of one batch", SECONDS)
        self.reconcile_batch = spread("reconcile_batch_points", "route", "Keys in one batch", SIZES)
        self.reconcile_errors = count("reconcile_errors", "route kind", "Batches that an error ended, by kind")
        self.offloaded = count(
            "offloaded", "where", "Work for the process beside: done there (beside), or by the proxy itself (here)"
        )

        # Jobs. kind: backfill | verify | sweep.
        self.jobs = gauge("jobs", "kind status", "Jobs by state")
        self.job_points = count(
            "job_points",
            "route kind outcome",
            "Points that jobs went through: copied, equal, different, unchecked, ...",
        )
        self.job_progress = gauge("job_progress_ratio", "route kind", "How much of the latest job is done, 0 to 1")
        self.job_page_seconds = spread("job_page_duration", "route kind", "Time of one page of a job", SECONDS)
        self.job_errors = count("job_errors", "route kind", "Failed attempts of jobs; they are tried again")

        # Shadow reads. outcome: compared | shed | unsettled | error.
        self.shadow = count("shadow_reads", "route outcome", "Shadow reads by what became of them")
        self.shadow_overlap = spread(
            "shadow_overlap_ratio", "route", "Overlap@k of the two answers, ties counted as equal", SHARES
        )
        self.shadow_score_difference = spread(
            "shadow_score_difference",
            "route",
            "Largest difference of a shared hit's score, after conversion",
            DIFFERENCES,
        )
        self.shadow_latency_ratio = spread(
            "shadow_latency_ratio", "route", "The shadow's time divided by that of the store that answered", RATIOS
        )
        self.shadow_missing = count("shadow_missing_ids", "route", "Hits of the answering store that the shadow lacked")

        # Stores, by their name in the configuration.
        self.store_up = gauge("store_up", "store", "1 while the store answers its probe")
        self.store_in_flight = gauge("store_in_flight", "store", "Requests of clients that the store is asked now")
        self.store_limit = gauge(
            "store_limit", "store", "How many it is asked at once at most, which falls as it gets slower under them"
        )
        self.store_errors = count("store_errors", "store kind", "Calls that failed: unavailable, unclear, refused, ...")

        # Configuration and process.
        self.config_reloads = count("config_reloads", "outcome", "Configuration files read again: taken, or refused")
        self.config_loaded = gauge("config_loaded_timestamp", "", "When the running configuration was taken", unit="s")
        self.build = gauge("build_info", "version", "Always 1; the version that runs")

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        return tuple(self._instruments)

    @property
    def table(self) -> tuple[Spec, ...]:
        return tuple(instrument.spec for instrument in self._instruments)

    def _counter(self, name: str, labels: str, description: str) -> Counter:
        counter = Counter(_spec(name, "counter", "1", labels, description))
        self._instruments.append(counter)
        return counter

    def _gauge(self, name: str, labels: str, description: str, unit: str = "1") -> Gauge:
        gauge = Gauge(_spec(name, "gauge", unit, labels, description))
        self._instruments.append(gauge)
        return gauge

    def _histogram(self, name: str, labels: str, description: str, bounds: tuple[float, ...]) -> Histogram:
        """Histograms over SECONDS are in seconds, all others are plain numbers."""
        unit = "s" if bounds is SECONDS else "1"
        histogram = Histogram(_spec(name, "histogram", unit, labels, description, bounds))
        self._instruments.append(histogram)
        return histogram


def _spec(name: str, kind: Kind, unit: str, labels: str, description: str, bounds: tuple[float, ...] = ()) -> Spec:
    return Spec(f"crossfade_{name}", kind, unit, tuple(labels.split()), description, bounds)

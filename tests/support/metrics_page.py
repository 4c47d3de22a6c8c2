"""`python -m tests.support.metrics_page > docs/metrics.md`: the table of metrics as a page."""

from __future__ import annotations

from proxy.telemetry.instruments import Spec
from proxy.telemetry.metrics import Metrics

HEAD = """# Metrics

`GET /metrics` on the control port, and on the probes port if there is one, answers in Prometheus's text format.
The table is `proxy/telemetry/metrics.py`; this page is made from it (`python -m tests.support.metrics_page`).

- `route`, `store` and `listener` are names of the configuration; a request that no route takes has the route `none`.
- `primary` and `secondary` are the stores' roles now; they change places at a cutover.
- No label ever holds a collection, tenant, key or id that a client chose. A metric keeps at most 1,000 label sets;
  what comes later is counted under `overflow`.
- The usual `process_*` metrics (CPU, resident memory, open files) come with them.

| metric | kind | labels | meaning |
|---|---|---|---|
"""

ALERTS = """
## What to watch

| sign | where |
|---|---|
| the secondary falls behind | `crossfade_keys_oldest_age_seconds` grows |
| points that the target cannot hold | `crossfade_keys{state="parked"}` above 0; `crossfade parked ROUTE` lists them |
| reads that never reach the target | `crossfade_primary_only_reads_total`, `crossfade_untranslatable_total` by reason |
| answers differ | `crossfade_shadow_overlap_ratio`, `crossfade shadow ROUTE` shows the worst |
| the journal is slow | `crossfade_journal_commit_duration_seconds`; every write waits for one commit |
| an edit was refused | `crossfade_config_reloads_total{outcome="refused"}`; the log has the line and the reason |
"""


def _row(spec: Spec) -> str:
    labels = ", ".join(f"`{label}`" for label in spec.labels)
    return f"| `{spec.exposed}` | {spec.kind} | {labels} | {spec.description.replace('|', '/')} |\n"


def page() -> str:
    return HEAD + "".join(map(_row, Metrics().table)) + ALERTS


if __name__ == "__main__":
    print(page(), end="")

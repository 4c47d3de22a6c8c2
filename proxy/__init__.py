"""Crossfade: an async proxy that moves a live application from one vector database to another.

The primitives, and which way data flows (ARCHITECTURE.md tells more; start reading at pipeline.py):

- A **Request** (wire.py) is what a listener read. A **dialect** decodes it into an **Operation** (model).
- A **Route** says where the operation's collection moves from and to. Reads: one **Decision**, one **Store** answers.
- A write goes to the **primary**. It stands in the **journal** before it is sent, and leaves its **keys** dirty.
- **Reconciliation** is the only thing that changes the **secondary**: it copies the state of dirty keys.
- The **ledger** is the fold of the journal: it knows which key is clean, open, dirty, held or parked.
- **Jobs** (backfill, verify, sweep) do the long work of a migration through the same ledger.

    client ─► listeners ─► dialects ─► pipeline ─► serving ─► stores            (reads)
                                                  └► replication ─► stores     (writes)
                                     migration ─► replication                   (jobs)
"""

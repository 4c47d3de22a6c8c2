"""Replication: how the secondary follows the primary. docs/replication.md has the rules, ledger.py has them as code.

    writer.py        a client's write, its keys named in the request      lanes.py    the order of writes of one key
    scopes.py        ... its keys known to the primary alone               hints.py    states that writes leave for ...
    definitions.py   create, drop, aliases, indexes                        reconciler.py  ... copying dirty keys
    records.py ─► journal.py ─► book.py ─► ledger.py                       holds.py    requests that may still land
    (bytes)       (durable)     (routes)   (one collection, pure)          confirmations.py  policies that wait
    replicator.py    one route: acts on what the journal has applied       copying.py  points to a store, key by key
    bulk.py          what is done to many keys in one step                  bell.py     wakes the journal's thread

Decisions are made by pure code (ledger, hints, records, book); what they bring about is done by the others, after the
journal has applied the record, in the order of positions.
"""

"""Serving: what the pipeline works with while it answers requests.

upstream.py   a source as clients know it: forwarders, names (aliases), the door between writes and alias changes
live.py       a route at work: configuration, replicator, target, and whether its secondary can be read now
reads.py      answering a read: decide, ask, fall back, remember scrolls, offer to the shadow
access.py     who may read an answer that the client's own database did not give
"""

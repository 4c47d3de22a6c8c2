"""The benchmark: what the proxy costs, measured beside doing without it. `python -m bench`, or `make bench`.

    load ──────────────► source                     "direct"
    load ──► proxy ────► source (──► target)        the same load on the same source, through the proxy

Everything is a process of its own: the load (load/), the proxy as it is shipped, the source, the target. The proxy has
a core to itself, all others share the rest (processes.py). The source is either the emulated Qdrant (Qdrant's engine
behind a front in Python, which is slower than a Qdrant server) or a stub of canned answers (stub.py, not a database),
so that a slow source does not hide what the proxy costs.

Rounds are interleaved (direct, proxy, proxy, direct, ...); what is told are ratios within rounds, their median and
extremes (figures.py), with absolute figures beside. Nothing here passes or fails by a time: some rows have a bound,
which is told with what is reached of it. One file a measurement in measurements/; docs/performance.md holds the results
and how to read them.

One group stands apart (measurements/peers/): the same load through ours and through Envoy and nginx (peers/), whose
capacity a core is the measure there.
"""

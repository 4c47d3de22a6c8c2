"""The endurance run: hours of load at a share of what the proxy can carry, with clients that break off, upstreams that
reset connections, and edits of the configuration, and no failed request beyond those that were cut on purpose.

    load.py ── HTTP, TLS, gRPC ──► crossfade serve ──► upstream.py (source), which resets connections (resets.py)
      │  callers_http, callers_grpc       ▲      └───► upstream.py (target), which does so too
      │  break off on purpose             │ edits, a new certificate (edits.py)
      └── failures ──► matching.py ◄── resets: which requests were under way on them
                           │
                        run.py: figures and problems

`__main__.py` is the command; messages.py says what is asked and what the right answer is, byte for byte.
"""

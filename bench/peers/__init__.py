"""The peers: proxies that others rely on, put where ours stands. Each is a ChildProcess with the addresses of a proxy.

    load ──► Envoy, nginx or ours ──► stub

They are asked for no more than ours does: one worker, no access log, no request ids, no headers of their own, time-outs
and buffers that nothing here meets, and as many kept connections to the upstream as there are callers. Their
configuration is written by pure functions (envoy.py, nginx.py) into a directory that goes away; their programs come
from the package index (installed.py).
"""

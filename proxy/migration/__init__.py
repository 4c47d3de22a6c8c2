"""Migration: the long-running work of a route, as jobs of one small framework (jobs.py).

backfill.py copies what was there before the mirror; verify.py proves that both sides hold the same, and repairs.
kinds.py makes them for a route, sweeper.py starts a sweep when one is needed. Each starts from the same call, whether
the control API or a recovery asks for it, and goes on where it stopped.
"""

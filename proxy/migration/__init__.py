"""Migration: the long-running work of a route, as jobs of one small framework (jobs.py).

backfill.py copies what was there before the mirror; verify.py proves that both sides hold the same, and repairs. Each
starts from the same call, whether the control API or a recovery asks for it, and goes on where it stopped.
"""

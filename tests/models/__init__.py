"""Exhaustive models of the replication protocol; see docs/models.md."""

"""Crossfade: an async proxy that moves a live application from one vector database to another."""

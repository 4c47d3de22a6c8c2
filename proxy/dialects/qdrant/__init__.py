"""Qdrant's REST and gRPC, both ends."""

"""The Milvus dialect: how the model's values stand in Milvus, and the messages that say so. Pure.

Only the store's end so far: what a `Store` over Milvus sends and reads back. docs/milvus.md tells a user what
becomes of ids, names, payloads, filters and scores; each module here holds one of them.
"""

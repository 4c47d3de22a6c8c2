"""What Milvus cannot hold: its limits, and the one exception for a point that runs into one.

The numbers are the defaults of Milvus 2.3 (its limits page and configs/milvus.yaml); Milvus Lite accepts more of
some, but a collection is kept such that it could stand in either.
"""

from __future__ import annotations

MAX_NAME_CHARACTERS = 255
MAX_DYNAMIC_FIELD_BYTES = 65_536
MAX_WINDOW = 16_384  # offset + limit of a search, and the rows of a query
MAX_DIMENSION = 32_768
TEXT_ID_BYTES = 1024  # the length that our own VARCHAR primary keys are declared with
INT64 = range(-(2**63), 2**63)
MAX_NESTING = 100  # levels of objects and arrays in a payload


class UnrepresentableError(Exception):
    """Milvus cannot hold this point exactly; the message says why. Never leaves the adapter: it becomes a refusal."""

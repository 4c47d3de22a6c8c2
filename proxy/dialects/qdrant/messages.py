"""The proto messages of protos/qdrant, as attributes of `proto`: `proto.PointStruct(...)`."""

from __future__ import annotations

from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from proxy.dialects.descriptors import message_set
from proxy.dialects.qdrant.undecodable import Undecodable

proto = message_set("qdrant", "qdrant")


def known(message: Any) -> Any:
    """The message itself. Raises Undecodable if it carries a field that protos/qdrant does not describe: a newer client
    asks for something whose meaning is not known here."""
    if len(UnknownFieldSet(message)):
        raise Undecodable("unknown field")
    return message

"""What every section of the configuration shares, and the kinds of values that fields have.

A section is frozen, knows all its keys, and takes no value of a neighbouring type: `"25"` is not 25.
Two allowances, both for people: a key without a value counts as not given (a list whose entries are
commented out), and text from a variable is read as a number or a truth value where one is expected.

A validator's message continues the sentence that the value begins: `"x" is not host:port`.
"""

from __future__ import annotations

import ipaddress
import re
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from proxy.config.document import Substituted, scalar

QDRANT_PORT = 6333  # what the official client takes where a URL names no port


class Section(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        return {
            key: _as_number(value) if key in fields and _takes_number(fields[key].annotation) else value
            for key, value in data.items()
            if value is not None or key not in fields
        }


def _takes_number(annotation: Any) -> bool:
    """Whether a field's type is a number or bool, maybe with constraints, maybe optional."""
    if get_origin(annotation) is Annotated:
        return _takes_number(get_args(annotation)[0])
    return annotation in (int, float, bool) or any(_takes_number(option) for option in _options(annotation))


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()


def _as_number(value: Any) -> Any:
    meant = scalar(value) if isinstance(value, Substituted) else None
    return value if meant is None or isinstance(meant, str) else meant


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` -> (host, port). Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host:
        host = ""
    if not (colon and re.fullmatch(r"[^\s/@\[\]]+", host) and re.fullmatch(r"[0-9]{1,5}", port) and int(port) < 65536):
        raise ValueError("is not host:port, such as 127.0.0.1:6333 or [::1]:6333")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. Names other than localhost are not looked up: False."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(value: str) -> str:
    split_address(value)
    return value


def _server(value: str) -> str:
    if split_address(value)[1] == 0:
        raise ValueError("names no port")
    return value


def _url(value: str) -> str:
    """Scheme, host, port and maybe a path, without a slash at the end."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is not a URL such as http://host:6333 or https://host:6333/prefix")
    if "@" in parts.netloc:
        raise ValueError("holds a name or password; give the key in `api_key`")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not between 0 and 65535") from None
    return f"{parts.scheme}://{host}:{port or QDRANT_PORT}{parts.path.rstrip('/')}"


def _given(secret: SecretStr | None) -> SecretStr | None:
    return secret if secret is not None and secret.get_secret_value() else None


def _those_given(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    return tuple(secret for secret in secrets if secret.get_secret_value())


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Address = Annotated[str, AfterValidator(_address)]  # to listen on; port 0 takes any free one
Server = Annotated[str, AfterValidator(_server)]  # to connect to
Url = Annotated[str, AfterValidator(_url)]
OptionalSecret = Annotated[SecretStr | None, AfterValidator(_given)]  # empty text counts as none
Secrets = Annotated[tuple[SecretStr, ...], AfterValidator(_those_given)]  # empty texts are left out
Text = Annotated[str, Field(min_length=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Patterns = Annotated[tuple[Text, ...], Field(min_length=1)]

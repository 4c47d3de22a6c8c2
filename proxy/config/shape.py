"""The whole configuration, and the sections that belong to the process rather than to a route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from proxy.config.routes import Route
from proxy.config.section import (
    Address,
    Count,
    Name,
    OptionalSecret,
    Seconds,
    Secrets,
    Section,
    Text,
    is_loopback,
    split_address,
)
from proxy.config.stores import StoreConfig


def _on_this_machine(address: str) -> str:
    if not is_loopback(split_address(address)[0]):
        raise ValueError(
            "is beyond loopback; control listens on this machine only (`probes` may be reached from outside)"
        )
    return address


class Tls(Section):
    """What connections to a listener are encrypted with. The files may be replaced while the proxy runs: who connects
    from then on is shown the new certificate."""

    certificate: Text = Field(description="File with the certificate and its chain, in PEM")
    key: Text = Field(description="File with its private key, in PEM, without a passphrase")


class Listener(Section):
    """A socket that the application's clients connect to."""

    name: Name = Field(description="Name in logs and metrics")
    vendor: Literal["qdrant"] = Field(description="Whose clients it serves")
    transport: Literal["http", "grpc", "both"] = Field(description="What is spoken on it; both: told apart by itself")
    address: Address = Field(description="host:port to listen on; port 0 takes a free one")
    tls: Tls | None = Field(default=None, description="Encrypts its connections; plain if not given")
    max_body_bytes: Count = Field(default=32 * 1024 * 1024, description="Largest request that is taken (bytes)")
    max_connection_age_seconds: Seconds | None = Field(
        default=None,
        description="After roughly this long a gRPC client is asked to connect anew, without losing a call; if not "
        "given, 600 where there are several workers, and else never (seconds)",
    )
    max_in_flight: Count = Field(default=1000, description="Requests answered at once; more get 429 (requests)")
    max_in_flight_bytes: Count = Field(
        default=512 * 1024 * 1024, description="Memory for the bodies of requests that are answered (bytes)"
    )
    debug_headers: bool = Field(default=True, description="Tell in headers of the answer who answered, and why")


class Auth(Section):
    """Whose requests are answered."""

    mode: Literal["none", "keys", "ask-primary"] = Field(
        default="none",
        description="none: anybody's, so listeners must be on loopback; keys: who shows one of `keys`; ask-primary: "
        "whom the source accepts, until a cutover",
    )
    keys: Secrets = Field(default=(), description="Accepted keys, for mode keys; empty ones do not count")
    cache_seconds: Seconds = Field(
        default=60, description="How long the source's word about a key is believed, for mode ask-primary (seconds)"
    )


class Control(Section):
    """The control API, which the command line uses."""

    address: Annotated[Address, AfterValidator(_on_this_machine)] = Field(
        default="127.0.0.1:7700", description="host:port, on loopback"
    )
    token: OptionalSecret = Field(
        default=None, description="Token that callers show; if not given, one is made in data_dir/control.token"
    )


class Probes(Section):
    """/livez, /readyz and /metrics without a token."""

    address: Address | None = Field(default=None, description="host:port; not served if not given")


class Logging(Section):
    """What is logged to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged"
    )
    format: Literal["json", "text"] = Field(default="json", description="One JSON object a line, or text for people")


class Config(Section):
    """A configuration of Crossfade."""

    version: Literal[1] = Field(description="Version of this format")
    data_dir: Text = Field(
        default="./crossfade-data", description="Directory of the journal and the control token, made if not there"
    )
    workers: Annotated[int, Field(ge=1, le=32)] = Field(
        default=1, description="Processes that share the listeners' ports; one a core that the proxy may use"
    )
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1)] = Field(description="Where clients connect")
    auth: Auth = Field(default_factory=Auth, description="Who may use the listeners")
    control: Control = Field(default_factory=Control, description="Control API")
    probes: Probes = Field(default_factory=Probes, description="Probes and metrics")
    logging: Logging = Field(default_factory=Logging, description="Log")
    stores: Annotated[Mapping[Name, StoreConfig], Field(min_length=1)] = Field(description="The databases, by name")
    routes: tuple[Route, ...] = Field(default=(), description="What moves; the first route that matches counts")
    unknown_collections: Literal["primary-only", "mirror", "refuse"] = Field(
        default="primary-only",
        description="Collections that no route matches: go to `default_source` alone, move with `default_route`, or "
        "are refused",
    )
    default_route: Text | None = Field(
        default=None, description="The route of unknown collections, for unknown_collections: mirror"
    )
    default_source: Text | None = Field(
        default=None,
        description="The store that answers what belongs to no route; may be left out if all routes have one source",
    )

    @property
    def source_of_the_rest(self) -> str:
        """The store that answers what belongs to no route, requests without a collection among it."""
        return self.default_source or self.routes[0].source

    def route(self, name: str) -> Route | None:
        return next((route for route in self.routes if route.name == name), None)

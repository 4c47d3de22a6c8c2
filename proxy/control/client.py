"""Calls the control API from another process: the command line, the demo, scripts.

Blocking and on the standard library's HTTP, since a command must start fast. Every error arrives as the
exception that the proxy raised: NotKnown, GateClosed, ConfigError, Unauthorized, TryAgain, JournalError,
StoreError; Unavailable where nobody listens, Unclear where the answer did not come.
"""

from __future__ import annotations

import http.client
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from proxy.control import (
    AuditEntry,
    JobAction,
    JobInfo,
    JobKind,
    JobRequest,
    Moved,
    MoveRequest,
    NotKnown,
    ParkedKey,
    Plan,
    Recovery,
    Reloaded,
    RouteStatus,
    ShadowReport,
    Status,
    WeightRequest,
)
from proxy.errors import (
    ConfigError,
    CrossfadeError,
    GateClosed,
    JournalError,
    StoreError,
    TryAgain,
    Unauthorized,
    Unavailable,
    Unclear,
)

T = TypeVar("T")

_KINDS: dict[str, type[CrossfadeError]] = {
    "unauthorized": Unauthorized,
    "gate_closed": GateClosed,
    "config": ConfigError,
    "try_again": TryAgain,
    "journal": JournalError,
    "store": StoreError,
}


class ControlClient:
    """`url` is http://host:port. `timeout_seconds` bounds each call; starting dual writes may take a while."""

    def __init__(self, url: str, token: str, timeout_seconds: float = 120.0) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_seconds = timeout_seconds

    def status(self) -> Status:
        return self._call("GET", "/api/status", Status)

    def start_job(self, kind: JobKind, route: str, **options: bool) -> JobInfo:
        return self._call("POST", "/api/jobs", JobInfo, JobRequest(kind=kind, route=route, options=options))

    def jobs(self) -> list[JobInfo]:
        return self._call("GET", "/api/jobs", list[JobInfo])

    def job(self, id: str) -> JobInfo:
        return self._call("GET", f"/api/jobs/{quote(id, safe='')}", JobInfo)

    def act_on_job(self, id: str, action: JobAction) -> JobInfo:
        return self._call("POST", f"/api/jobs/{quote(id, safe='')}/{action}", JobInfo)

    def mirror(self, route: str, **request: Any) -> RouteStatus:
        return self._call("POST", f"{_route(route)}/mirror", RouteStatus, MoveRequest(**request))

    def plan(self, route: str) -> Plan:
        return self._call("GET", f"{_route(route)}/plan", Plan)

    def cutover(self, route: str, **request: Any) -> Moved:
        return self._call("POST", f"{_route(route)}/cutover", Moved, MoveRequest(**request))

    def rollback(self, route: str, **request: Any) -> Moved:
        return self._call("POST", f"{_route(route)}/rollback", Moved, MoveRequest(**request))

    def complete(self, route: str, **request: Any) -> Moved:
        return self._call("POST", f"{_route(route)}/complete", Moved, MoveRequest(**request))

    def invalidate(self, route: str, **request: Any) -> RouteStatus:
        return self._call("POST", f"{_route(route)}/invalidate", RouteStatus, MoveRequest(**request))

    def recover(self, route: str, **request: Any) -> Recovery:
        return self._call("POST", f"{_route(route)}/recover", Recovery, MoveRequest(**request))

    def list_behind(self, route: str) -> Moved:
        return self._call("POST", f"{_route(route)}/behind", Moved)

    def audit(self, route: str) -> list[AuditEntry]:
        return self._call("GET", f"{_route(route)}/audit", list[AuditEntry])

    def set_weight(self, route: str, percent: float, write: bool = False) -> RouteStatus:
        return self._call("PUT", f"{_route(route)}/weight", RouteStatus, WeightRequest(percent=percent, write=write))

    def clear_weight(self, route: str) -> RouteStatus:
        return self._call("DELETE", f"{_route(route)}/weight", RouteStatus)

    def parked(self, route: str, limit: int = 100) -> list[ParkedKey]:
        return self._call("GET", f"{_route(route)}/parked?limit={limit}", list[ParkedKey])

    def shadow(self, route: str) -> ShadowReport:
        return self._call("GET", f"{_route(route)}/shadow", ShadowReport)

    def reload(self) -> Reloaded:
        return self._call("POST", "/api/reload", Reloaded)

    def metrics(self) -> str:
        """The Prometheus page."""
        return self._exchange("GET", "/metrics", b"")[1].decode()

    def ready(self) -> str | None:
        """Why the proxy is not ready, None if it is."""
        status, body = self._exchange("GET", "/readyz", b"")
        return None if status == 200 else body.decode().strip()

    def _call(self, method: str, path: str, answer: type[T], body: msgspec.Struct | None = None) -> T:
        status, content = self._exchange(method, path, msgspec.json.encode(body) if body is not None else b"")
        if status >= 400:
            raise _raised(status, content)
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.DecodeError as error:
            raise CrossfadeError(f"{self.url} answers, but not as a control API of this version: {error}") from error

    def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(f"`{self.url}` is not the address of a control API; expected http://host:port")
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=self._timeout_seconds)
        try:
            connection.connect()
        except OSError as error:
            raise Unavailable(
                f"no proxy answers at {self.url} ({error.strerror or error}); start it with `crossfade serve`, or say "
                "where it is with -c FILE or --control URL"
            ) from error
        try:
            connection.request(method, path, body, self._headers())
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unclear(f"{self.url} did not answer {method} {path}: {error}; see `crossfade status`") from error
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}


def _route(name: str) -> str:
    return f"/api/routes/{quote(name, safe='')}"


def _raised(status: int, content: bytes) -> CrossfadeError:
    try:
        error: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])["error"]
    except (msgspec.DecodeError, KeyError):
        return CrossfadeError(f"the control API answered {status} without saying why")
    if error["kind"] == "not_known":
        return NotKnown(error["what"], error["name"], error["known"])
    return _KINDS.get(error["kind"], CrossfadeError)(error["message"])

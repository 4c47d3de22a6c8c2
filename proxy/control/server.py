"""The control API and the probes, over HTTP.

/api/* needs `Authorization: Bearer TOKEN` and answers JSON: a value of `proxy.control`, or
{"error": {"kind", "message", ...}} with a status that the client turns back into the same exception.
/livez, /readyz and /metrics need no token and hold nothing of a client.

Whoever holds the token can move an application's reads, so the configuration takes no address beyond loopback
for the API. The probes can have a listener of their own, which may be reached from outside.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from proxy.control import JobAction, JobRequest, MoveRequest, NotKnown, Operations, WeightRequest, token
from proxy.errors import ConfigError, CrossfadeError, GateClosed, JournalError, StoreError, TryAgain, Unauthorized
from proxy.sockets import listening
from proxy.telemetry.exposition import CONTENT_TYPE

Page = Callable[[], Awaitable[bytes]]  # the metrics
Readiness = Callable[[], str | None]  # why this process should get no requests yet, or None
Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
V = TypeVar("V")

# The first that fits says status and kind. `client` reads the kind, people the message.
_ANSWERS: tuple[tuple[type[CrossfadeError], int, str], ...] = (
    (Unauthorized, 401, "unauthorized"),
    (NotKnown, 404, "not_known"),
    (GateClosed, 409, "gate_closed"),
    (ConfigError, 422, "config"),
    (TryAgain, 503, "try_again"),
    (JournalError, 503, "journal"),
    (StoreError, 502, "store"),
    (CrossfadeError, 400, "refused"),
)

OPEN = frozenset({"/livez", "/readyz", "/metrics"})
MAX_BODY_BYTES = 64 * 1024
_SHUTDOWN_SECONDS = 1.0
_log = logging.getLogger("crossfade.control")


def api(operations: Operations, page: Page, ready: Readiness, secret: str) -> web.Application:
    """The whole control API, probes included."""
    application = probes(page, ready)
    application.middlewares.extend([_errors, _guard(secret)])
    application.add_routes(_Api(operations).routes())
    return application


def probes(page: Page, ready: Readiness) -> web.Application:
    """/livez, /readyz and /metrics alone."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = ready()
        return web.Response(status=200 if reason is None else 503, text=f"{reason or 'ok'}\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await page(), headers={"Content-Type": CONTENT_TYPE})

    application = web.Application(client_max_size=MAX_BODY_BYTES)
    application.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return application


class _Api:
    """One method an endpoint: read the request, call the operation, answer with its value."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/status", self.status),
            web.get("/api/jobs", self.jobs),
            web.post("/api/jobs", self.start_job),
            web.get("/api/jobs/{job}", self.job),
            web.post("/api/jobs/{job}/{action:pause|resume|cancel}", self.act_on_job),
            web.post("/api/routes/{route}/mirror", self.mirror),
            web.get("/api/routes/{route}/plan", self.plan),
            web.post("/api/routes/{route}/{move:cutover|rollback|complete|invalidate|recover}", self.move),
            web.post("/api/routes/{route}/behind", self.list_behind),
            web.get("/api/routes/{route}/audit", self.audit),
            web.put("/api/routes/{route}/weight", self.set_weight),
            web.delete("/api/routes/{route}/weight", self.clear_weight),
            web.get("/api/routes/{route}/parked", self.parked),
            web.get("/api/routes/{route}/shadow", self.shadow),
            web.post("/api/reload", self.reload),
        ]

    async def status(self, _: web.Request) -> web.Response:
        return _json(await self._operations.status())

    async def jobs(self, _: web.Request) -> web.Response:
        return _json(await self._operations.jobs())

    async def start_job(self, request: web.Request) -> web.Response:
        return _json(await self._operations.start_job(await _body(request, JobRequest)), status=201)

    async def job(self, request: web.Request) -> web.Response:
        return _json(await self._operations.job(request.match_info["job"]))

    async def act_on_job(self, request: web.Request) -> web.Response:
        action = msgspec.convert(request.match_info["action"], JobAction)
        return _json(await self._operations.act_on_job(request.match_info["job"], action))

    async def mirror(self, request: web.Request) -> web.Response:
        wanted = await _body(request, MoveRequest) if request.can_read_body else MoveRequest()
        return _json(await self._operations.mirror(request.match_info["route"], wanted))

    async def plan(self, request: web.Request) -> web.Response:
        return _json(await self._operations.plan(request.match_info["route"]))

    async def move(self, request: web.Request) -> web.Response:
        move = getattr(self._operations, request.match_info["move"])
        return _json(await move(request.match_info["route"], await _body(request, MoveRequest)))

    async def list_behind(self, request: web.Request) -> web.Response:
        return _json(await self._operations.list_behind(request.match_info["route"]))

    async def audit(self, request: web.Request) -> web.Response:
        return _json(await self._operations.audit(request.match_info["route"]))

    async def set_weight(self, request: web.Request) -> web.Response:
        wanted = await _body(request, WeightRequest)
        if not 0 <= wanted.percent <= 100:
            raise web.HTTPBadRequest(text=f"a weight is a percentage from 0 to 100, not {wanted.percent:g}")
        return _json(await self._operations.set_weight(request.match_info["route"], wanted))

    async def clear_weight(self, request: web.Request) -> web.Response:
        return _json(await self._operations.clear_weight(request.match_info["route"]))

    async def parked(self, request: web.Request) -> web.Response:
        given = request.query.get("limit", "100")
        if not (given.isdecimal() and 1 <= int(given) <= 10_000):
            raise web.HTTPBadRequest(text=f"limit is a number from 1 to 10000, not {given}")
        return _json(await self._operations.parked(request.match_info["route"], int(given)))

    async def shadow(self, request: web.Request) -> web.Response:
        return _json(await self._operations.shadow(request.match_info["route"]))

    async def reload(self, _: web.Request) -> web.Response:
        return _json(await self._operations.reload())


class Server:
    """An application on a socket. `port` is the real one, also where 0 was asked for."""

    def __init__(self, application: web.Application, host: str, port: int, sock: socket.socket | None = None) -> None:
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        self._host = host
        self._asked = port
        self.port = port
        self.socket = sock

    async def start(self) -> None:
        """Raises ConfigError if the address is taken."""
        await self._runner.setup()
        try:
            if self.socket is None:
                self.socket = listening(self._host, self._asked)
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {self._host}:{self._asked}: {error.strerror}; free the port, or choose another"
            ) from error
        self.port = self.socket.getsockname()[1]
        await web.SockSite(self._runner, self.socket).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _guard(secret: str) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handle) -> web.StreamResponse:
        if request.path not in OPEN and not token.matches(request.headers.get("Authorization"), secret):
            raise Unauthorized("the control token is missing or wrong; it is in data_dir/control.token")
        return await handler(request)

    return guard


@web.middleware
async def _errors(request: web.Request, handler: Handle) -> web.StreamResponse:
    try:
        return await handler(request)
    except CrossfadeError as error:
        status, kind = next((status, kind) for type_, status, kind in _ANSWERS if isinstance(error, type_))
        details = {"what": error.what, "name": error.name, "known": error.known} if isinstance(error, NotKnown) else {}
        return _error(status, kind, str(error), **details)
    except web.HTTPException as error:
        return _error(error.status, "http", error.text or error.reason)
    except Exception:  # noqa: BLE001 - the operator gets an answer, and the log the error
        _log.exception("a control request failed", extra={"method": request.method})
        return _error(500, "internal", "the proxy failed on this request; its log says why")


def _error(status: int, kind: str, message: str, **details: object) -> web.Response:
    return _json({"error": {"kind": kind, "message": message, **details}}, status=status)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


async def _body(request: web.Request, kind: type[V]) -> V:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=f"the request's body does not fit: {error}") from error

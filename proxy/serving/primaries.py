"""How a request is carried out on the primary: as the client sent it on a store of its own vendor, or by the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from msgspec import structs

from proxy.clock import Clock
from proxy.dialects import Call, Dialect, Judgement, Outcome
from proxy.errors import (
    CollectionExists,
    CollectionNotFound,
    CrossfadeError,
    InvalidRequest,
    NotServed,
    Overloaded,
    Unauthorized,
    Unclear,
    Unstorable,
    Untranslatable,
)
from proxy.fronts.names import NameMap
from proxy.model import OpaqueWrite, PrimaryOnlyRead, Result, Side, UpdateAliases, Written, look_into
from proxy.replication.writer import Primary
from proxy.serving.upstream import Upstream
from proxy.wire import Request, Response, plain, readable

_UNTOUCHED = (CollectionNotFound, CollectionExists, NotServed, Unauthorized, Unstorable, Untranslatable)


class Front(Protocol):
    """Answers clients of the source's vendor from a store of another one."""

    async def answer(self, call: Call) -> Result:
        """The operation of `call`, which was looked into (`look_into`), carried out. Raises RequestError and
        StoreError; Untranslatable, before anything was changed, for what the store cannot express."""
        ...

    def refuse(self, request: Request, error: CrossfadeError) -> Response:
        """The error in the words of the client's vendor."""
        ...


def native(upstream: Upstream, dialect: Dialect, call: Call) -> Primary:
    """The source: the client's own deadline does not cut a write short, since what became of it would not be known; and
    the answer comes in an encoding that we can read."""
    request = readable(structs.replace(call.request, timeout_seconds=None))
    return Primary(
        Side.SOURCE, lambda: upstream.forward(request), lambda response: dialect.judge(call, plain(response))
    )


def about(call: Call, collection: str) -> Call:
    """The call about `collection`, which the name in it stands for."""
    operation = call.operation
    if isinstance(operation, UpdateAliases | OpaqueWrite | PrimaryOnlyRead):
        return call
    return replace(call, operation=NameMap(lambda _: collection).operation(operation))  # type: ignore[arg-type]


def translated(front: Front, dialect: Dialect, call: Call, clock: Clock) -> Primary:
    """The target, by the model; its answers and refusals in the client's dialect."""
    carried_out = _Translated(front, dialect, call, clock.now)
    return Primary(Side.TARGET, carried_out.send, lambda _: carried_out.judgement)


@dataclass(slots=True)
class _Translated:
    front: Front
    dialect: Dialect
    call: Call
    now: Callable[[], float]
    judgement: Judgement = field(default_factory=lambda: Judgement(Outcome.UNKNOWN))

    async def send(self) -> Response:
        began = self.now()
        try:
            look_into(self.call.operation)
        except InvalidRequest as error:
            return self._refused(error, Outcome.UNTOUCHED)
        try:
            result = await self.front.answer(self.call)
        except (Unclear, Overloaded):
            raise
        except _UNTOUCHED as error:
            return self._refused(error, Outcome.UNTOUCHED)
        except CrossfadeError as error:  # of several steps, some may have been taken
            return self._refused(error, Outcome.FAILED)
        failed = isinstance(result, Written) and result.failed
        self.judgement = Judgement(Outcome.FAILED if failed else Outcome.ACCEPTED)
        return self.dialect.encode(self.call, result, self.now() - began)

    def _refused(self, error: CrossfadeError, outcome: Outcome) -> Response:
        self.judgement = Judgement(outcome)
        if isinstance(error, Untranslatable):
            error = NotServed(f"{error.reason}: the target, which is the primary by now, cannot do that")
        return self.front.refuse(self.call.request, error)

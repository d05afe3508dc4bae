"""Calls about files and jobs: their faults, latencies and counts."""

from __future__ import annotations

import asyncio
import collections
import gzip

from starlette.requests import Request
from starlette.responses import Response

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.batch_faults import BatchFaults, precedes
from bulkembed.emulator.batch_settings import CallFault, CallKind, is_answer, lost_status
from bulkembed.emulator.calls import State
from bulkembed.emulator.faults import error_of
from bulkembed.emulator.gateway import Gateway, Handler, NoAnswer
from bulkembed.emulator.settings import Fault, read_step


class BatchCalls:
    """Applies faults to handlers, and counts their answers."""

    def __init__(self, state: State, gateway: Gateway) -> None:
        self._state, self._gateway = state, gateway
        self.reset()

    def reset(self) -> None:
        """Restart the counts, the script and the random sequence."""
        self.answers: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )
        self._faults = BatchFaults(self._state.settings, self._state.clock.now())

    def handler(self, kind: CallKind, handler: Handler) -> Handler:
        """Return the handler with faults; it finds `cut` in `request.state.fault`."""

        async def call(request: Request) -> Response:
            fault = self._faults.draw(kind, self._state.clock.now())
            request.state.fault = fault
            outcome = "aborted"
            try:
                await asyncio.sleep(self._state.faults.latency_s())
                response = await self._answer(handler, request, fault)
                unusual = isinstance(response, NoAnswer) or fault == CallFault.BROKEN_JSON
                outcome = fault if unusual else str(response.status_code)
                return response
            except ApiError as error:
                planned = is_answer(fault) or lost_status(fault)
                outcome = fault if planned else str(error.code)
                raise
            finally:
                self.answers[kind][outcome] += 1

        return self._gateway.guard(call)

    async def _answer(self, handler: Handler, request: Request, fault: str) -> Response:
        if precedes(fault):
            return await _refuse(request, fault)
        response = await handler(request)
        if fault in (CallFault.LOST, CallFault.LOST_HANG):
            return NoAnswer(Fault.RESET if fault == CallFault.LOST else Fault.HANG)
        if fault == CallFault.BROKEN_JSON:
            whole = bytes(response.body)
            if "content-encoding" in response.headers:
                whole = gzip.decompress(whole)
            half = whole[: len(whole) // 2]
            return Response(half, response.status_code, media_type=response.media_type)
        if lost_status(fault):
            raise _error(lost_status(fault))
        return response


async def _refuse(request: Request, fault: str) -> Response:
    if not is_answer(fault):
        return NoAnswer(Fault(fault))
    async for _ in request.stream():  # A client that still sends would not see the answer.
        pass
    raise _error(fault)


def _error(status: str) -> ApiError:
    step = read_step(status)
    error = error_of(step) if step is not None else None
    if error is None:  # A 429 as a fault of a call that embeds has details, this one has none.
        error = ApiError(int(status), "Resource has been exhausted (e.g. check quota).")
    return error

"""Faults of calls about files and jobs, drawn from one seeded source."""

from __future__ import annotations

import collections
import random

from bulkembed.emulator.batch_settings import ANY_CALL, CallFault, CallKind, is_answer
from bulkembed.emulator.settings import EmulatorSettings, Fault

_SHARED = frozenset({
    Fault.TOO_MANY, Fault.INTERNAL, Fault.UNAVAILABLE, Fault.DEADLINE, Fault.RESET, Fault.HANG,
    Fault.BROKEN_JSON,
})  # fmt: skip
"""The faults of calls that embed which also befall calls about files and jobs."""

_WITHOUT_TRANSFER: dict[str, str] = {
    CallFault.CUT.value: CallFault.RESET.value,
    CallFault.STALL.value: CallFault.HANG.value,
}


class BatchFaults:
    """Decides for each call: by the script of its kind, then by outages, then by shares."""

    def __init__(self, settings: EmulatorSettings, start: float) -> None:
        self._settings = settings
        self._start = start
        self._random = random.Random(f"{settings.seed} batch")
        self._script: dict[str, collections.deque[str]] = collections.defaultdict(collections.deque)
        for step in settings.batch.call_script:
            kind, _, fault = step.partition(":")
            for one in CallKind if kind == ANY_CALL else (kind,):
                self._script[one].append(fault)

    def draw(self, kind: CallKind, now: float) -> str:
        """Return the fault of the next call of a kind; "" for a call that passes.

        A fault is a `CallFault`, `lost-STATUS` or an HTTP status. Only transfers can be cut or
        stall: other calls are not carried out.
        """
        fault = self._draw(kind, now)
        transfers = kind in (CallKind.UPLOAD, CallKind.DOWNLOAD)
        return fault if transfers else _WITHOUT_TRANSFER.get(fault, fault)

    def _draw(self, kind: CallKind, now: float) -> str:
        if self._script[kind]:
            return self._script[kind].popleft().removeprefix("ok")
        elapsed_s = now - self._start
        if any(start <= elapsed_s < end for start, end in self._settings.outages):
            return "503"
        drawn = self._random.random()
        for fault, share in self._shares(kind):
            if drawn < share:
                return fault
            drawn -= share
        return ""

    def _shares(self, kind: CallKind) -> list[tuple[str, float]]:
        own = [
            (fault, share)
            for where, fault, share in self._settings.batch.call_faults
            if where in (kind, ANY_CALL)
        ]
        shared = [(str(one), share) for one, share in self._settings.faults if one in _SHARED]
        return own + shared


def precedes(fault: str) -> bool:
    """Return whether a fault prevents that its call is carried out."""
    return is_answer(fault) or fault in (CallFault.RESET, CallFault.HANG)

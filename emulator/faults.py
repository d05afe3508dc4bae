"""Faults and latencies of calls, drawn from one seeded source."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bulkembed.emulator.api_errors import ApiError, Page, invalid
from bulkembed.emulator.settings import EmulatorSettings, Fault, ScriptedError, read_step

_ERRORS = {
    Fault.INTERNAL: (500, "An internal error has occurred. Please retry or report in "
                          "https://developers.generativeai.google/guide/troubleshooting"),
    Fault.UNAVAILABLE: (503, "The model is overloaded. Please try again later."),
    Fault.DEADLINE: (504, "The request timed out. Please try again."),
}  # fmt: skip
_SCRIPTED = "The script of the emulator asks for this answer."


class Faults:
    """Decides for each call: first by the script, then by outages, then by shares."""

    def __init__(self, settings: EmulatorSettings, start: float) -> None:
        self._settings = settings
        self._start = start
        self._random = random.Random(settings.seed)
        self._script = iter(settings.script)

    def draw(self, now: float) -> Fault | ScriptedError | None:
        """Return the fault of the next call; None for a call that passes."""
        step = next(self._script, None)
        if step is not None:
            return read_step(step)
        elapsed_s = now - self._start
        if any(start <= elapsed_s < end for start, end in self._settings.outages):
            return Fault.UNAVAILABLE
        drawn = self._random.random()
        for fault, share in self._settings.faults:
            if drawn < share:
                return fault
            drawn -= share
        return None

    def latency_s(self) -> float:
        """Return the latency of the next call: uniform in mean ± jitter, longer for slow calls."""
        settings = self._settings
        latency_ms = settings.latency_ms + self._random.uniform(-1, 1) * settings.jitter_ms
        if self._random.random() < settings.slow_share:
            latency_ms += settings.slow_ms
        return max(0.0, latency_ms) / 1000

    def check_texts(self, texts: Sequence[str]) -> None:
        """Raise 400 or 503 for the whole call if a text is poison or sick, without naming it."""
        failure = text_failure(self._settings, texts)
        if failure is not None:
            raise failure


def text_failure(settings: EmulatorSettings, texts: Sequence[str]) -> ApiError | None:
    """Return the error of texts of which one is poison or sick."""
    poison, sick = settings.poison, settings.sick
    if poison is not None and any(poison in text for text in texts):
        return _poisoned()
    if sick is not None and any(sick in text for text in texts):
        return ApiError(*_ERRORS[Fault.UNAVAILABLE])
    return None


def file_failure(settings: EmulatorSettings, data: bytes) -> ApiError | None:
    """Return the error of a file that is poison or sick."""
    if settings.poison is not None and settings.poison.encode() in data:
        return _poisoned()
    if settings.sick is not None and settings.sick.encode() in data:
        return ApiError(*_ERRORS[Fault.UNAVAILABLE])
    return None


def _poisoned() -> ApiError:
    return invalid("Request contains an invalid argument.")


def error_of(fault: Fault | ScriptedError) -> ApiError | None:
    """Return the error answer of a fault; None if it has none."""
    if isinstance(fault, ScriptedError):
        return Page(fault.status) if fault.page else ApiError(fault.status, _SCRIPTED)
    if fault not in _ERRORS:
        return None
    code, message = _ERRORS[fault]
    return ApiError(code, message)

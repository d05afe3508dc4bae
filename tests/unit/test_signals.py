"""A signal stops work without requests, wherever it is received."""

from __future__ import annotations

import signal
import time
import weakref

import pytest

from bulkembed.pipeline.runners.signals import Interrupted, raise_interrupts

WAIT_S = 1.2
"""Less than the time after which the process would end by itself."""


class Referent:
    """Something that a weak reference can refer to."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_received_in_the_callback_of_a_weak_reference_is_not_lost(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python drops the exception there: the signal has to be received once more."""
    ended: list[int] = []
    monkeypatch.setattr("bulkembed.pipeline.runners.signals.exit_now", ended.append)
    reached: list[str] = []

    def callback(_: object) -> None:
        reached.append("before")
        signal.raise_signal(number)
        reached.append("after")

    def work() -> None:
        referent = Referent()
        reference = weakref.ref(referent, callback)
        with raise_interrupts():
            del referent
            assert reference() is None
            time.sleep(WAIT_S)

    with pytest.raises(Interrupted):
        work()
    assert (reached, ended) == (["before"], [])

from __future__ import annotations

import asyncio
import threading

from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.units.note_writer import NoteWriter


def test_a_slow_store_does_not_block_the_event_loop_that_stops_the_run() -> None:
    may_write, written = threading.Event(), []

    def write(stop: Stop) -> None:
        may_write.wait()
        written.append(stop.reason)

    writer = NoteWriter(write)
    flag = StopFlag(writer.write)

    async def loop() -> list[StopReason]:
        flag.set(StopReason.UNAVAILABLE, "down")
        flag.set(StopReason.REJECTED, "refused")
        await asyncio.sleep(0)  # The loop continues while the store writes.
        before = list(written)
        may_write.set()
        await asyncio.to_thread(writer.flush)
        return before

    assert asyncio.run(loop()) == []
    assert written == [StopReason.UNAVAILABLE, StopReason.REJECTED]
    writer.close()
    writer.write(Stop(StopReason.SIGNAL, "too late", 0.0))
    writer.flush()
    assert len(written) == 2


def test_remaining_notes_are_written_before_the_thread_ends() -> None:
    begun, written = threading.Event(), []

    def write(stop: Stop) -> None:
        begun.wait()
        written.append(stop.message)

    writer = NoteWriter(write)
    for number in range(3):
        writer.write(Stop(StopReason.SIGNAL, str(number), 0.0))
    threading.Timer(0.05, begun.set).start()
    writer.close()
    assert written == ["0", "1", "2"]

"""How large answers are received, from a server of plain sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bulkembed.transforms.clients.bodies import BODIES_AT_ONCE, BodyKeeper, KeptBody

BODY = bytes(6 << 20)
HEAD = f"HTTP/1.1 200 OK\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()


@contextmanager
def serving(calls: int, answer: Callable[[str, socket.socket], None]) -> Iterator[str]:
    """Serve so many calls, each by the word in its path; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = []

        def accept() -> None:
            for _ in range(calls):
                connection, _ = listener.accept()
                thread = threading.Thread(target=serve, args=(connection,))
                threads.append(thread)
                thread.start()

        def serve(connection: socket.socket) -> None:
            with connection:
                path = connection.recv(65536).split()[1].decode()
                answer(path.removeprefix("/"), connection)

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        acceptor.join()
        for thread in threads:
            thread.join()


async def size_of_body(client: BodyKeeper, url: str) -> int:
    body = KeptBody()
    await client.receive(client.build_request("GET", url), body)
    size = len(body.content)
    body.release()
    return size


def test_simultaneous_answers_are_not_all_in_memory_at_once() -> None:
    calls = 16
    all_there = threading.Barrier(calls)

    def answer(_: str, connection: socket.socket) -> None:
        all_there.wait(30)
        connection.sendall(HEAD + BODY[: 1 << 16])
        connection.sendall(memoryview(BODY)[1 << 16 :])

    async def go(url: str) -> list[int]:
        async with BodyKeeper(trust_env=False, timeout=30) as client:
            return await asyncio.gather(*(size_of_body(client, url) for _ in range(calls)))

    with serving(calls, answer) as url:
        tracemalloc.start()
        try:
            assert asyncio.run(go(url)) == [len(BODY)] * calls
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # The bodies that are being received, and the one that is being joined.
    assert len(BODY) < peak < calls * len(BODY) / 2


def test_stalled_answers_do_not_delay_others() -> None:
    stalled = BODIES_AT_ONCE - 1
    others_came = threading.Event()

    def answer(word: str, connection: socket.socket) -> None:
        half = len(BODY) // 2
        connection.sendall(HEAD + BODY[:half])
        if word == "slow":
            assert others_came.wait(30)
        connection.sendall(BODY[half:])

    async def go(url: str) -> None:
        async with BodyKeeper(trust_env=False, timeout=30) as client, asyncio.TaskGroup() as group:
            slow = [group.create_task(size_of_body(client, f"{url}slow")) for _ in range(stalled)]
            quick = [group.create_task(size_of_body(client, f"{url}quick")) for _ in range(8)]
            sizes = await asyncio.gather(*quick)
            assert not any(task.done() for task in slow)
            others_came.set()
            assert sizes + await asyncio.gather(*slow) == [len(BODY)] * (8 + stalled)

    with serving(8 + stalled, answer) as url:
        asyncio.run(go(url))


def test_answers_without_a_body_yet_take_no_place() -> None:
    last_came = threading.Event()

    def answer(word: str, connection: socket.socket) -> None:
        connection.sendall(HEAD)
        if word == "slow":
            assert last_came.wait(30)
        connection.sendall(BODY)

    async def go(url: str) -> None:
        async with BodyKeeper(trust_env=False, timeout=30) as client, asyncio.TaskGroup() as group:
            for _ in range(2 * BODIES_AT_ONCE):
                group.create_task(size_of_body(client, f"{url}slow"))
            assert await size_of_body(client, f"{url}quick") == len(BODY)
            last_came.set()

    with serving(2 * BODIES_AT_ONCE + 1, answer) as url:
        asyncio.run(go(url))

"""Beam's EnvoyRateLimiter against a small server that speaks its protocol."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from apache_beam.io.components import rate_limit_pb2 as pb
from support.cli import run, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.calls.rate_service import EnvoyService


class RateServer:
    """Allows every hit except those whose number is in `rejected`."""

    def __init__(self, rejected: frozenset[int] = frozenset()) -> None:
        self.requests: list[pb.RateLimitRequest] = []
        self._rejected = rejected
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._answer,
            request_deserializer=pb.RateLimitRequest.FromString,
            response_serializer=pb.RateLimitResponse.SerializeToString,
        )
        name = "envoy.service.ratelimit.v3.RateLimitService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"ShouldRateLimit": handler}),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _answer(self, request: pb.RateLimitRequest, _: object) -> pb.RateLimitResponse:
        self.requests.append(request)
        if len(self.requests) not in self._rejected:
            return pb.RateLimitResponse(overall_code=pb.RateLimitResponse.OK)
        status = pb.RateLimitResponse.DescriptorStatus(code=pb.RateLimitResponse.OVER_LIMIT)
        status.duration_until_reset.FromMilliseconds(200)
        return pb.RateLimitResponse(overall_code=pb.RateLimitResponse.OVER_LIMIT, statuses=[status])

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def rates() -> Iterator[RateServer]:
    one = RateServer(frozenset({3}))
    yield one
    one.close()


def test_each_text_is_one_hit_and_a_rejected_hit_is_retried(rates: RateServer) -> None:
    asyncio.run(EnvoyService(rates.address, "gemini-embedding-001").allow(5))
    assert len(rates.requests) == 6
    (descriptor,) = rates.requests[0].descriptors
    entries = [(entry.key, entry.value) for entry in descriptor.entries]
    assert (rates.requests[0].domain, entries) == ("bulkembed", [("model", "gemini-embedding-001")])


def test_a_run_asks_the_service_for_every_text(
    rates: RateServer, server: EmulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "anything")
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(30)])
    args = ("--dim", 128, "--rate-limit-service", rates.address, "--unit-rows", 10)
    ended = run(server.url, source, tmp_path / "out", *args)
    assert ended.code == 0, ended.err
    assert len(rates.requests) == 31

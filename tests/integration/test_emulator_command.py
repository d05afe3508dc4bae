"""The command in its own process, and the prepared bodies for benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from bulkembed.emulator.batch_settings import BatchSettings, JobOutcome, KeyForm
from bulkembed.emulator.command import emulator, settings_from
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.errors import ConfigError

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-c", "from bulkembed.emulator.command import emulator; emulator()"]


def test_the_help_of_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bulkembed.emulator.command import emulator; "
        "print({'starlette', 'uvicorn', 'tokenizers', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_its_url_and_ends_at_a_signal(number: int) -> None:
    process = subprocess.Popen(
        [*RUN, "--port", "0", "--rpm", "1", "--api-key", "sesame"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("emulator listening on http://127.0.0.1:")
    url = line.split()[-1]
    answer = httpx2.post(
        f"{url}/v1beta/models/gemini-embedding-001:embedContent",
        json={"content": {"parts": [{"text": "a"}]}},
        headers={"x-goog-api-key": "sesame"},
    )
    assert answer.status_code == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == ("", "", 0)


def test_the_options_of_batch_jobs_become_settings() -> None:
    args = (
        "--batch-seconds 5 --batch-outcomes failed@3,hang --batch-outcome expired:0.5 "
        "--batch-row-fault 503:0.1 --batch-call-fault *:reset:0.2 --batch-script create:lost "
        "--batch-bucket b=/tmp/b --batch-key-form metadata --no-batch-shuffle "
        "--batch-upload-needs-key --batch-state-prefix JOB_STATE_"
    )
    context = emulator.make_context("emulator", args.split())
    assert settings_from(context.params).batch == BatchSettings(
        seconds=5, outcomes=("failed@3", "hang"), outcome_shares=((JobOutcome.EXPIRED, 0.5),),
        row_faults=(("503", 0.1),), call_faults=(("*", "reset", 0.2),),
        call_script=("create:lost",), buckets=(("b", "/tmp/b"),), key_form=KeyForm.METADATA,
        shuffle=False, upload_needs_key=True, state_prefix="JOB_STATE_",
    )  # fmt: skip
    assert settings_from(emulator.make_context("emulator", []).params) == EmulatorSettings()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--batch-outcomes", "done"), ("--batch-outcome", "done:0.1"),
        ("--batch-row-fault", "missing"), ("--batch-row-fault", "lost:0.1"),
        ("--batch-call-fault", "make:503:0.1"), ("--batch-script", "create"),
        ("--batch-bucket", "b"), ("--batch-seconds", "-1"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_batch_jobs_is_an_error_that_names_it(option: str, value: str) -> None:
    context = emulator.make_context("emulator", [option, value])
    with pytest.raises(ConfigError, match=f"{option}.*{value.split(':')[0]}"):
        settings_from(context.params)


def test_the_error_for_a_used_port_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            EmulatorServer(EmulatorSettings(port=port))


def test_an_unknown_retired_model_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--retired my-model"):
        EmulatorServer(EmulatorSettings(retired=("my-model",)))


def test_a_server_can_be_stopped_twice_and_its_port_reused() -> None:
    with EmulatorServer() as first:
        port = int(first.url.rsplit(":", 1)[1])
    first.stop()
    with EmulatorServer(EmulatorSettings(port=port)) as second:
        assert httpx2.get(f"{second.url}/stats").json()["texts"] == 0


def test_an_answer_does_not_wait_for_delayed_acknowledgements() -> None:
    with (
        EmulatorServer() as server,
        httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}) as http,
    ):
        took = []
        for _ in range(20):
            started = time.perf_counter()
            http.get("/v1beta/models/gemini-embedding-001")
            took.append(time.perf_counter() - started)
    assert statistics.median(took) < 0.03


@pytest.mark.parametrize("gzip", [False, True])
def test_canned_bodies_have_the_requested_count_and_dim(gzip: bool) -> None:
    settings = EmulatorSettings(canned=True, gzip=gzip, script=("ok", "ok", "503"))
    model = "gemini-embedding-001"
    with (
        EmulatorServer(settings) as server,
        httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}) as http,
    ):
        one = {"model": f"models/{model}", "content": {"parts": [{"text": "a"}]}}
        path = f"/v1beta/models/{model}:batchEmbedContents"
        for count, dim in ((3, 768), (100, 3072)):
            body = {"requests": [one | {"outputDimensionality": dim}] * count}
            answer = http.post(path, json=body)
            assert [len(e["values"]) for e in answer.json()["embeddings"]] == [dim] * count
            assert ("content-encoding" in answer.headers) is gzip
        assert http.post(path, json=body).status_code == 503
        assert http.post(path, json={"requests": [one] * 101}).status_code == 400
        assert http.post(path, content=b"{").status_code == 400
        vertex = "/v1beta1/publishers/google/models/"
        body = {"instances": [{"content": "a"}, {"content": "b"}]}
        answer = http.post(f"{vertex}text-embedding-005:predict", json=body).json()
        assert len(answer["predictions"]) == 2
        assert server.stats()["texts"] == 105

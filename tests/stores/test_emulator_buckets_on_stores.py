"""The emulator's batch inference reads from and writes to a server of Google Cloud Storage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.batch_api import batch_api
from support.stores import Store
from support.vertex_batch_api import VertexBatchApi, vertex_row

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = [
    pytest.mark.stores,
    pytest.mark.timeout(120),
    pytest.mark.parametrize("store", ["gs"], indirect=True),
]


def test_a_job_reads_and_writes_objects(store: Store, tmp_path: Path) -> None:
    rows = [vertex_row(str(number), f"text {number}") for number in range(20)]
    uri = f"{store.root}/in/rows.jsonl"
    store.write(uri, b"\n".join(json.dumps(row).encode() for row in rows))
    place = store.environ["STORAGE_EMULATOR_HOST"]
    settings = EmulatorSettings(batch=BatchSettings(buckets=(("bucket", place),)))
    with batch_api(settings) as api:
        vertex = VertexBatchApi(api, tmp_path)
        name = vertex.create(uri).json()["name"]
        assert vertex.state(name) == "SUCCEEDED"
        folder = vertex.get(name)["outputInfo"]["gcsOutputDirectory"]
        lines = [
            json.loads(line)
            for file in store.files(folder)
            for line in store.read(f"{folder}/{file}").splitlines()
        ]
        assert {line["key"] for line in lines} == {row["key"] for row in rows}
        missing = vertex.create(f"{store.root}/in/none.jsonl").json()["name"]
        assert "is not found" in vertex.get(missing)["error"]["message"]

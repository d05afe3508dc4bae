from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from apache_beam.internal.pickler import dumps, loads
from support.jobs import a_job

from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.transforms.embed_units import EmbedUnitsFn

KEY = "AIza-this-is-the-key"


def test_the_stage_can_be_pickled_and_carries_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    (tmp_path / "key").write_text(KEY)
    service = ServiceConfig(api_key_file=str(tmp_path / "key"))
    fn = EmbedUnitsFn(a_job(str(tmp_path), service=service))
    for data in (dumps(fn), pickle.dumps(fn)):
        raw = data if isinstance(data, bytes) else data.encode()
        assert KEY.encode() not in raw
    again = loads(dumps(fn))
    assert again._job.run_id == "run-1"
    assert again._job.row_schema.equals(pa.schema([("id", pa.int64())]))


def test_an_engine_is_not_pickled_and_is_closed_once(tmp_path: Path) -> None:
    service = ServiceConfig(kind=Service.EMULATOR, base_url="http://127.0.0.1:9")
    embedding = EmbeddingConfig(service="emulator", model="gemini-embedding-001")
    one, two = (
        loads(dumps(EmbedUnitsFn(a_job(str(tmp_path), service=service, embedding=embedding))))
        for _ in range(2)
    )
    one.setup()
    two.setup()
    assert one._engine is two._engine
    engine = one._engine
    one.teardown()
    assert not engine.loop._loop.is_closed()
    two.teardown()
    assert engine.loop._loop.is_closed()
    one.teardown()


def test_teardown_of_a_stage_that_never_started_does_nothing(tmp_path: Path) -> None:
    EmbedUnitsFn(a_job(str(tmp_path))).teardown()
    assert not list(tmp_path.iterdir())


def test_setup_without_a_key_is_an_error_that_says_so(tmp_path: Path) -> None:
    from bulkembed.schemas.errors import ConfigError

    with pytest.raises(ConfigError, match="no API key"):
        EmbedUnitsFn(a_job(str(tmp_path))).setup()

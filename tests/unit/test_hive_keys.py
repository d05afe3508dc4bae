"""Hive keys: what the names of folders say, and the types of their values."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bulkembed.transforms.inputs.hive_keys import hive_keys, type_of_values


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        pytest.param("a.parquet", {}, id="none"),
        pytest.param("lang=de/part-0.parquet", {"lang": "de"}, id="one"),
        pytest.param("/t/dt=2024-01-31/lang=de/a=b.parquet", {"dt": "2024-01-31", "lang": "de"},
                     id="not-of-the-file"),
        pytest.param("a=x%20y%2Fz/f", {"a": "x y/z"}, id="percent"),
        pytest.param("a%3Db=1/f", {"a=b": "1"}, id="percent-in-the-key"),
        pytest.param("a=b=c/f", {"a": "b=c"}, id="equals-in-the-value"),
        pytest.param("a=__HIVE_DEFAULT_PARTITION__/f", {"a": None}, id="null"),
        pytest.param("a=/f", {"a": ""}, id="empty"),
        pytest.param("=a/b/f", {}, id="no-key"),
        pytest.param("a=1/b=2/a=3/f", {"b": "2", "a": "3"}, id="the-last-counts"),
    ],
)  # fmt: skip
def test_the_keys_of_a_path(path: str, keys: dict[str, str | None]) -> None:
    assert dict(hive_keys(path)) == keys
    assert list(hive_keys(path)) == list(keys)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param(["2024", "-1", "0", None], pa.int64(), id="integers"),
        pytest.param([str(2**63 - 1), str(-(2**63))], pa.int64(), id="largest"),
        pytest.param([str(2**63)], pa.string(), id="too-large"),
        pytest.param(["1", "02"], pa.string(), id="leading-zero"),
        pytest.param(["-0"], pa.string(), id="minus-zero"),
        pytest.param(["1", "1.5"], pa.string(), id="fraction"),
        pytest.param(["2024-02-29", "1999-12-31"], pa.date32(), id="dates"),
        pytest.param(["2023-02-29"], pa.string(), id="no-such-day"),
        pytest.param(["2024-01-01", "1"], pa.string(), id="mixed"),
        pytest.param(["de", "en"], pa.string(), id="words"),
        pytest.param([""], pa.string(), id="empty"),
        pytest.param([None], pa.null(), id="nulls"),
    ],
)
def test_the_type_of_values(values: list[str | None], kind: pa.DataType) -> None:
    assert type_of_values(values) == kind

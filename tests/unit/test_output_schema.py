from __future__ import annotations

import pyarrow as pa
import pytest

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import OUR_COLUMNS, PASSAGE_COLUMNS, InputColumns
from bulkembed.schemas.output_schema import vectors_schema

ID = pa.schema([("id", pa.int64())])


@pytest.mark.parametrize(
    ("passages", "own"),
    [
        pytest.param(False, OUR_COLUMNS, id="rows"),
        pytest.param(True, OUR_COLUMNS + PASSAGE_COLUMNS, id="passages"),
    ],
)
def test_the_columns_of_the_output_are_the_names_that_no_kept_column_may_have(
    passages: bool, own: tuple[str, ...]
) -> None:
    schema = vectors_schema(ID, 8, "float32", {}, passages=passages)
    assert sorted(schema.names) == sorted(own)


@pytest.mark.parametrize("name", OUR_COLUMNS)
def test_a_kept_column_with_the_name_of_an_own_column_is_rejected(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--keep-columns {name}: the output has its own columns"):
        InputColumns(keep_columns=(name,))

"""A dataset made for `bulkembed verify`, the kinds of damage, and what is found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset.part_files import VECTOR_PATH, part_writer
from support.cli import bulkembed, parts, run, write_rows

ROWS = 30
UNIT_ROWS = 10


def make_dataset(folder: Path) -> Path:
    """`in/a.parquet` and `out`: three units, two dead letters, one blank row; gives the folder."""
    texts = [f"text {n} about {['cats', 'banks', 'rain'][n % 3]}" for n in range(ROWS)]
    texts[3], texts[4], texts[15] = "poison", "", "poison"
    write_rows(folder / "in/a.parquet", texts, lang=["en"] * ROWS)
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = run(
            server.url, folder / "in", folder / "out", "--dim", 128, "--unit-rows", UNIT_ROWS,
            "--keep-columns", "lang",
        )  # fmt: skip
    assert ended.code == 0, ended.err
    return folder


def findings(place: Path, *args: object) -> list[tuple[str, str, str]]:
    shown = bulkembed("verify", place / "out", *args, "--json")
    report = json.loads(shown.out)
    assert shown.code == report["exit_code"] == bool(report["findings"])
    return [(f["check"], f["where"], f["message"]) for f in report["findings"]]


def first_part(place: Path, folder: str = "vectors") -> Path:
    return parts(place / "out", folder)[0]


def record(place: Path, at: int = 0) -> Path:
    return sorted((place / "out/_run/units").iterdir())[at]


def rewrite(part: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = change(pq.read_table(part))
    with pa.OSFile(str(part), "wb") as stream:
        part_writer(table)(stream)
    _commit_sizes(part)


def _commit_sizes(part: Path) -> None:
    """Let the part's record say the bytes that are there now, so that only the content tells."""
    output = part.parents[1]
    unit = re.sub(r"^part-|(-g\d+)?(-n\d+)?$", "", part.stem)
    for record in output.glob(f"_run/units/{unit}-*.json"):
        size = sum(one.stat().st_size for one in output.glob(f"*/{part.name}"))
        text = re.sub(r'"part_bytes":\d+', f'"part_bytes":{size}', record.read_text())
        record.unlink()
        record.with_name(re.sub(r"-b\d+", f"-b{size}", record.name)).write_text(text)


def with_vectors(change: Callable[[Any], None]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        kind = table.schema.field("vector").type
        flat = table["vector"].combine_chunks().flatten().to_numpy().copy()
        change(flat.reshape(-1, kind.list_size))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)
        return table.set_column(1, table.schema.field("vector"), vectors)

    return changed


def with_column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[..., pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        at, field = table.schema.get_field_index(name), table.schema.field(name)
        return table.set_column(at, field, pa.array(change(table[name].to_pylist()), field.type))

    return changed


def cut_short(place: Path) -> None:
    part = first_part(place)
    part.write_bytes(part.read_bytes()[:-40])


def overwritten_in_the_middle(place: Path) -> None:
    part = first_part(place, "dead_letters")
    data = bytearray(part.read_bytes())
    data[10:60] = bytes(50)
    part.write_bytes(data)


def a_flipped_bit_in_a_vector(place: Path) -> None:
    """The lowest bit of the last number of the last vector: no other check can see it."""
    part = first_part(place)
    group = pq.ParquetFile(part).metadata.row_group(0)
    columns = (group.column(at) for at in range(group.num_columns))
    vector = next(column for column in columns if column.path_in_schema == VECTOR_PATH)
    data = bytearray(part.read_bytes())
    data[vector.data_page_offset + vector.total_compressed_size - 4] ^= 1
    part.write_bytes(data)


def a_part_is_deleted(place: Path) -> None:
    first_part(place).unlink()


def a_record_is_deleted(place: Path) -> None:
    record(place).unlink()


def a_record_is_cut_short(place: Path) -> None:
    record(place).write_bytes(record(place).read_bytes()[:50])


def a_record_has_another_name(place: Path) -> None:
    old = record(place)
    old.rename(old.with_name(old.name.replace("-d1-", "-d3-")))


def a_record_says_other_than_its_name(place: Path) -> None:
    old = record(place)
    old.rename(old.with_name(old.name.replace("-e8-d1-s1-", "-e7-d2-s1-")))


def a_record_is_there_twice(place: Path) -> None:
    old = record(place, 2)
    first = old.name.replace("000000000020-00000010", "000000000019-00000010")
    text = old.read_text().replace('"first_row":20', '"first_row":19')
    old.with_name(first).write_text(text)


def nan(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__((2, 5), np.nan)))


def infinity(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__((2, 5), np.inf)))


def a_vector_of_zeros(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__(3, 0)))


def a_vector_that_is_too_long(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__(3, v[3] * 1.01)))


def an_id_of_another_row(place: Path) -> None:
    rewrite(first_part(place), with_column("id", lambda ids: [ids[1], *ids[1:]]))


def a_row_less(place: Path) -> None:
    rewrite(first_part(place), lambda table: table.slice(1))


def a_row_twice(place: Path) -> None:
    rewrite(first_part(place), with_column("source_row", lambda rows: [rows[1], *rows[1:]]))


def rows_of_another_file(place: Path) -> None:
    rewrite(first_part(place), with_column("source_file", lambda names: ["b.parquet"] * len(names)))


def another_dead_letter(place: Path) -> None:
    rewrite(
        first_part(place, "dead_letters"),
        with_column("code", lambda codes: [*codes[:-1], "rejected"]),
    )


def another_type_of_id(place: Path) -> None:
    rewrite(
        first_part(place),
        lambda table: table.set_column(0, "id", pc.cast(table["id"], pa.string())),
    )


def another_dim(place: Path) -> None:
    def shorter(table: pa.Table) -> pa.Table:
        flat = pa.array(np.ones(table.num_rows * 64, np.float32))
        return table.set_column(1, "vector", pa.FixedSizeListArray.from_arrays(flat, 64))

    rewrite(first_part(place), shorter)


def a_column_more(place: Path) -> None:
    rewrite(first_part(place), lambda t: t.append_column("more", pa.array([1] * t.num_rows)))


def a_footer_of_another_model(place: Path) -> None:
    def other(table: pa.Table) -> pa.Table:
        metadata = {**table.schema.metadata, b"bulkembed.model": b"embedding-001"}
        return table.replace_schema_metadata(metadata)

    rewrite(first_part(place), other)


def a_foreign_part(place: Path) -> None:
    shutil.copy(first_part(place), place / "out/vectors/mine.parquet")


def a_part_in_a_folder_below(place: Path) -> None:
    (place / "out/vectors/old").mkdir()
    shutil.copy(first_part(place), place / "out/vectors/old")


def an_unfinished_file(place: Path) -> None:
    (place / "out/_run/units/.tmp-1234-x.json").touch()


def no_success(place: Path) -> None:
    (place / "out/_SUCCESS").unlink()


def ids_that_were_swapped(place: Path) -> None:
    rewrite(first_part(place), with_column("id", lambda ids: [ids[1], ids[0], *ids[2:]]))


def hashes_that_were_swapped(place: Path) -> None:
    rewrite(first_part(place), with_column("text_hash", lambda h: [h[1], h[0], *h[2:]]))


def vectors_that_were_swapped(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__([0, 1], v[[1, 0]])))

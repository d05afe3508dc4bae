"""Merge committed units into a group: their rows in one part, and one record for all of them.

In a partitioned dataset there is one part for each partition.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import RunStamp, VectorEncoding
from bulkembed.schemas.output_schema import REMOVED_KEY
from bulkembed.schemas.units import GroupRecord, PartsRecord, UnitRecord
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.atomic_files import REPAIR, OwnershipCheck
from bulkembed.transforms.dataset.commit import write_committed
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.groups import group_key, to_footer, with_members
from bulkembed.transforms.dataset.layout import (
    DEAD_LETTERS,
    UNITS,
    VECTORS,
    partition_of,
    record_name,
)
from bulkembed.transforms.dataset.records import RecordParts

NOT_MERGED = frozenset({REMOVED_KEY.encode()})
"""Metadata of parts of single units."""


@dataclasses.dataclass(frozen=True, slots=True)
class MergedUnits:
    """A new group, and the files that it replaces."""

    group: GroupRecord
    replaced_records: tuple[str, ...]
    replaced_parts: tuple[str, ...]


def merge_units(
    dataset: Dataset,
    run: RunStamp,
    records: Sequence[PartsRecord],
    check_ownership: OwnershipCheck | None = None,
) -> MergedUnits:
    """Write the rows of units and groups as one part by partition, and commit them as a new group.

    Nothing is deleted: once the new record exists, the old ones do not count.

    Args:
        dataset: the dataset.
        run: the run that merges; no record has its number.
        records: records that have parts of their own, in the order that their rows are to have.
        check_ownership: as in `commit_unit`.

    Raises:
        OutputError: a part cannot be read, contradicts its record, or cannot be written.
        OutputTaken: another run has taken over the dataset.
    """
    read = [
        dataset.read_record(record) if isinstance(record, UnitRecord) else record
        for record in records
    ]
    members: list[UnitRecord] = []
    for record in read:
        members += [record] if isinstance(record, UnitRecord) else record.members
    parts = [RecordParts.of(record) for record in read]
    vectors = [name for one in parts for name in one.vectors]
    dead_letters = [name for one in parts for name in one.dead_letters]
    wanted = GroupRecord(
        group_key((member.unit for member in members), run.run_number),
        (),
        run_id=run.run_id,
        run_number=run.run_number,
        embedding_digest=run.embedding_digest,
    )
    group = with_members(wanted, members)
    footer = to_footer(group)
    expected = collections.Counter[str]()
    for member in group.members:
        expected.update({f"{VECTORS}/{span.name}": span.rows for span in member.spans()})
        expected.update({f"{DEAD_LETTERS}/{member.dead_part}": member.dead + member.skipped})
    size = 0
    for name in RecordParts.of(group).all:
        sources = dead_letters
        if name.startswith(f"{VECTORS}/"):
            sources = [one for one in vectors if partition_of(one) == partition_of(name)]
        size += _write_merged(dataset, run, name, sources, expected[name], footer)
    group = with_members(dataclasses.replace(wanted, part_bytes=size), members)
    write_committed(dataset, group, check_ownership)
    return MergedUnits(
        group,
        tuple(f"{UNITS}/{record_name(record)}" for record in read),
        tuple(vectors + dead_letters),
    )


def _write_merged(
    dataset: Dataset,
    run: RunStamp,
    name: str,
    sources: Sequence[str],
    rows: int,
    footer: dict[bytes, bytes],
) -> int:
    """Write the rows of all sources as one part; return its size."""
    first = part_files.open_part(dataset, sources[0]).schema_arrow
    kept = {k: v for k, v in (first.metadata or {}).items() if k not in NOT_MERGED}
    schema = first.with_metadata({**kept, **footer})
    encoding = run.vector_encoding if name.startswith(f"{VECTORS}/") else VectorEncoding.PLAIN

    def write(stream: pa.NativeFile) -> None:
        blocks = _blocks(dataset, sources, schema, rows)
        part_files.write_row_groups(stream, blocks, schema, encoding)

    return dataset.write_large(name, write)


def _blocks(
    dataset: Dataset, sources: Sequence[str], schema: pa.Schema, rows: int
) -> Iterator[pa.RecordBatch]:
    found = 0
    for name in sources:
        part = part_files.open_part(dataset, name)
        if part.schema_arrow.names != schema.names:
            raise OutputError(f"{name} has other columns than {sources[0]}. {REPAIR}")
        for block in part_files.read_blocks(part, name):
            found += block.num_rows
            yield block
    if found != rows:
        raise OutputError(
            f"{dataset.root}: the parts to merge, such as {sources[0]}, have {found:,} rows, but "
            f"{rows:,} were committed. {REPAIR}"
        )

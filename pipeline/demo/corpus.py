"""A real corpus on every machine: the docstrings of Python's standard library."""

from __future__ import annotations

import ast
import collections
import concurrent.futures
import gzip
import sys
import sysconfig
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

SHARDS = ("docstrings-00000.parquet", "docstrings-00001.parquet", "docstrings-00002.jsonl.gz")
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__"})


class Docstring(NamedTuple):
    """One text, with its dotted name and the kind of object that it documents."""

    id: str
    kind: str
    module: str
    text: str


def docstrings(packages: Collection[str] = ()) -> Iterator[Docstring]:
    """Yield the docstrings of the running interpreter's library, in order of file and line.

    Sources are parsed, not imported.

    Args:
        packages: top-level modules to read; all modules if it is empty.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [
        path
        for path in sorted(root.rglob("*.py"))
        if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts)
        and (not packages or path.relative_to(root).with_suffix("").parts[0] in packages)
    ]
    modules = [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for found in pool.map(_of_file, paths, modules, chunksize=20):
            yield from found


def _of_file(path: Path, module: str) -> list[Docstring]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []  # Tests of the library include invalid files on purpose.
    seen: collections.Counter[str] = collections.Counter()
    found = []
    for name, kind, node in _documented(tree, module):
        text = ast.get_docstring(node)
        if text:
            seen[name] += 1
            unique = name if seen[name] == 1 else f"{name}~{seen[name]}"
            found.append(Docstring(unique, kind, module, text))
    return found


def _documented(
    node: ast.AST, name: str
) -> Iterator[tuple[str, str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    if isinstance(node, ast.Module):
        yield name, "module", node
    for child in _statements(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{name}.{child.name}"
            yield inner, "class" if isinstance(child, ast.ClassDef) else "function", child
            yield from _documented(child, inner)
        else:
            yield from _documented(child, name)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements inside a statement. Expressions, most of a tree, are left out."""
    for field in ("body", "cases", "handlers", "orelse", "finalbody"):
        yield from getattr(node, field, ())


def write_corpus(folder: Path, packages: Collection[str] = ()) -> int:
    """Write the corpus as two Parquet shards and one `.jsonl.gz` shard; return its rows.

    Args:
        folder: where; it is created if it is missing.
        packages: top-level modules to read; all modules if it is empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(docstrings(packages))
    third = -(-len(rows) // len(SHARDS))
    for number, shard in enumerate(SHARDS):
        part = rows[number * third : (number + 1) * third]
        temp = folder / f".{shard}"
        if shard.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist([row._asdict() for row in part]), temp)
        else:
            lines = b"".join(
                orjson.dumps(row._asdict(), option=orjson.OPT_APPEND_NEWLINE) for row in part
            )
            temp.write_bytes(gzip.compress(lines, mtime=0))
        temp.replace(folder / shard)
    return len(rows)


def main() -> None:
    """Write the corpus: `python -m bulkembed.pipeline.demo.corpus FOLDER`."""
    folder = Path(sys.argv[1])
    print(f"{write_corpus(folder):,} docstrings in {folder}")


if __name__ == "__main__":
    main()

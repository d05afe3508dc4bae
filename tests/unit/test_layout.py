"""The layout of the source: imports run one way, and each name has one meaning."""

from __future__ import annotations

import ast
import collections
import functools
import graphlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("emulator", "pipeline", "schemas", "transforms")

MAY_IMPORT = {
    "schemas": (),
    "transforms.core": ("schemas",),
    "transforms.clients": ("schemas", "transforms.core", "transforms.inputs"),
    "transforms.inputs": ("schemas", "transforms.core"),
    "transforms.media": (
        "schemas", "transforms.core", "transforms.clients", "transforms.inputs", "transforms.calls",
    ),
    "transforms.dataset": ("schemas", "transforms.core", "transforms.inputs"),
    "transforms.calls": ("schemas", "transforms.core", "transforms.clients"),
    "transforms.units": (
        "schemas", "transforms.core", "transforms.clients", "transforms.inputs",
        "transforms.dataset", "transforms.calls", "transforms.media",
    ),
    "transforms.sync": (
        "schemas", "transforms.core", "transforms.inputs", "transforms.dataset", "transforms.units",
        "transforms.media",
    ),
    "transforms.batch": (
        "schemas", "transforms.core", "transforms.clients", "transforms.inputs",
        "transforms.dataset", "transforms.units",
    ),
    "transforms": ("schemas", "transforms"),
    "emulator": ("schemas",),
    "pipeline": ("", "emulator", "schemas", "transforms"),
    "": ("emulator", "pipeline", "schemas", "transforms"),
}  # fmt: skip
"""The packages that each package may import, besides itself. "" is the package `bulkembed`."""

WRONG_WAY: dict[tuple[str, str], str] = {}
"""Imports in the wrong direction, each with its reason. New entries need a very good one."""

SAME_MODULE_NAME: dict[str, str] = {}
"""Names of several modules, each with the reason why that is clear."""

SAME_TYPE_NAME: dict[str, str] = {}
"""Names of several public types, each with the reason why that is clear."""

LOCAL_TYPES = ("TypeVar", "NDArray")
"""Aliases of these are local abbreviations."""

NOT_IN_CORE = {
    "apache_beam", "asyncio", "fcntl", "google", "grpc", "httpx", "io", "os", "pathlib", "pyarrow",
    "random", "requests", "shutil", "socket", "subprocess", "tempfile", "threading", "time",
    "urllib",
}  # fmt: skip
"""Beam, the network, files, threads, the clock and randomness."""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the modules of the product by their names without `bulkembed.`."""
    found = {}
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = parse(path)
    for path in sorted((ROOT / "bulkembed").glob("*.py")):
        found["" if path.stem == "__init__" else path.stem] = parse(path)
    return found


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Yield each imported name in full; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from (f"{start}.{alias.name}" for alias in node.names)


def imported_modules(tree: ast.Module) -> set[str]:
    """Return the modules of the product that a module imports, also while type checking."""
    found = set()
    for name in imported_names(tree):
        if name.split(".")[0] != "bulkembed":
            continue
        short = name.removeprefix("bulkembed").removeprefix(".")
        found.add(short if short in modules() else short.rpartition(".")[0])
    return found


def package_of(module: str) -> str:
    """Return the longest entry of MAY_IMPORT that holds a module."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in MAY_IMPORT), "")


def is_allowed(importer: str, imported: str) -> bool:
    own, other = package_of(importer), package_of(imported)
    allowed = MAY_IMPORT[own]
    return other == own or other in allowed or other.split(".")[0] in allowed


def types_of(node: ast.stmt) -> Iterator[str]:
    """Yield the name of a class or of an alias that a statement defines."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    value = getattr(node, "value", None)
    if value is None or any(name in ast.unparse(value) for name in LOCAL_TYPES):
        return
    for target in targets:
        if isinstance(target, ast.Name) and re.fullmatch(
            "[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*", target.id
        ):
            yield target.id


def repeated(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group (name, place) pairs; return the names with several places."""
    places = collections.defaultdict(list)
    for name, place in pairs:
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_the_modules_are_found() -> None:
    assert len(modules()) > 100
    assert {package_of(name) for name in modules()} == set(MAY_IMPORT)


def test_imports_run_in_the_allowed_direction() -> None:
    wrong = {
        (importer, package_of(imported))
        for importer, tree in modules().items()
        for imported in imported_modules(tree)
        if not is_allowed(importer, imported)
    }
    assert wrong == set(WRONG_WAY)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imported_modules(tree) - {name} for name, tree in modules().items()}
    graphlib.TopologicalSorter(graph).prepare()  # Raises CycleError, which names the circle.


def test_core_uses_no_beam_network_files_or_clock() -> None:
    used = {
        (name, imported.split(".")[0])
        for name, tree in modules().items()
        if package_of(name) == "transforms.core"
        for imported in imported_names(tree)
    }
    assert not [pair for pair in used if pair[1] in NOT_IN_CORE]


def test_each_module_name_occurs_once() -> None:
    stems = ((name.split(".")[-1], name) for name in modules() if not name.endswith("__main__"))
    packages = {name.rpartition(".")[0] for name in modules()}
    found = repeated((stem, name) for stem, name in stems if name not in packages)
    assert found.keys() == SAME_MODULE_NAME.keys(), found


def test_each_public_type_name_occurs_once() -> None:
    found = repeated(
        (kind, name)
        for name, tree in modules().items()
        for node in tree.body
        for kind in types_of(node)
        if not kind.startswith("_")
    )
    assert found.keys() == SAME_TYPE_NAME.keys(), found


def test_only_the_reader_of_parquet_files_uses_the_pages_of_large_columns() -> None:
    pages = "transforms.inputs.parquet_pages"
    users = {
        name
        for name, tree in modules().items()
        if any(imported.startswith(pages) for imported in imported_modules(tree))
    }
    assert {name for name in users if not name.startswith(pages)} == {"transforms.inputs.parquet"}


@pytest.mark.parametrize("folder", [*TOPS, "benchmarks", "bulkembed", "examples", "tests"])
def test_imports_are_absolute_and_start_with_bulkembed(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported_names(parse(path))
        if name.split(".")[0] in TOPS or (name.startswith(".") and folder != "tests")
    ]
    assert not wrong


def test_the_design_page_names_these_imports() -> None:
    page = (ROOT / "docs/design.md").read_text()
    named = {
        folder.strip("/").replace("/", "."): set(re.findall(r"`(\w+)/`", imports))
        for folder, imports in re.findall(
            r"^\| `([\w/]+)/` \| .* \| ([^|]*) \|$", page, re.MULTILINE
        )
    }
    folders = [name for name in MAY_IMPORT if name not in ("", "transforms", "pipeline")]
    allowed = {
        name: {to.removeprefix("transforms.") for to in MAY_IMPORT[name]} for name in folders
    }
    assert {name: named.get(name) for name in folders} == allowed

"""The wheel as a user installs it: one import name, which works in any folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import bulkembed

ROOT = Path(__file__).parents[2]


def call(*command: object, environ: dict[str, str] | None = None, where: Path = ROOT) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=where,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (built,) = folder.glob("bulkembed-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """The interpreter of a new environment with the wheel and nothing else."""
    call(sys.executable, "-m", "venv", "--without-pip", wheel.parent / "venv")
    python = wheel.parent / "venv/bin/python"
    uv = (sys.executable, "-m", "uv", "--offline", "--no-cache", "--no-config")
    call(*uv, "pip", "install", "--python", python, "--no-deps", "--no-index", wheel)
    return python


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder with the user's own packages, named as folders of the checkout are."""
    for name in ("schemas", "pipeline", "transforms", "emulator", "examples", "benchmarks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('imported {name}')")
    return tmp_path


@pytest.fixture
def libraries(tmp_path: Path) -> dict[str, str]:
    """Variables with which the wheel finds this environment's libraries, but no .pth files."""
    return {"PYTHONPATH": sysconfig.get_path("purelib"), "HOME": str(tmp_path)}


def test_the_wheel_adds_exactly_one_top_level_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = {name.split("/")[0] for name in packed.namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"bulkembed"}


def test_the_wheel_has_every_module_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if name.endswith(".py")}
    tops = ("pipeline", "transforms", "schemas", "emulator")
    files = [file for top in tops for file in (ROOT / top).rglob("*.py")]
    assert {f"bulkembed/{file.relative_to(ROOT).as_posix()}" for file in files} <= names


def test_the_package_is_imported_without_any_library(python: Path) -> None:
    code = "import bulkembed, sys; print(bulkembed.__version__, len(dir(bulkembed)), bulkembed)"
    printed = call(python, "-I", "-c", code, where=python.parent)
    assert printed.startswith(bulkembed.__version__)
    assert str(python.parents[1]) in printed
    (installed,) = python.parents[1].glob("lib/python*/site-packages/bulkembed")
    assert (installed / "py.typed").exists()


def test_every_public_name_is_imported_in_a_folder_of_decoys(
    python: Path, decoys: Path, libraries: dict[str, str]
) -> None:
    code = (
        "from bulkembed import *; import bulkembed;"
        "print(bulkembed.transforms.__file__,"
        "*[name for name in bulkembed.__all__ if name in globals()])"
    )
    where, *names = call(python, "-c", code, environ=libraries, where=decoys).split()
    assert where.startswith(str(python.parents[1]))
    assert names == bulkembed.__all__


def test_the_command_line_works_in_a_folder_of_decoys(
    python: Path, decoys: Path, libraries: dict[str, str]
) -> None:
    version = f"bulkembed, version {bulkembed.__version__}\n"
    command = python.with_name("bulkembed")
    assert call(command, "--version", environ=libraries, where=decoys) == version
    module = (python, "-m", "bulkembed")
    assert call(*module, "--version", environ=libraries, where=decoys) == version
    models = call(*module, "models", environ=libraries, where=decoys)
    assert "gemini-embedding-001" in models
    (decoys / "in.jsonl").write_text('{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    job = ("run", "--input", "in.jsonl", "--output", "out", "--emulator", "--dim", 128)
    call(*module, *job, environ=libraries, where=decoys)
    table = pq.read_table(decoys / "out/vectors")
    assert sorted(table["id"].to_pylist()) == [1, 2]


def test_the_checkout_has_a_command_line_too() -> None:
    version = f"bulkembed, version {bulkembed.__version__}\n"
    assert call(sys.executable, "-m", "pipeline", "--version") == version


def test_an_unknown_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'EmbedRow'"):
        _ = bulkembed.EmbedRow  # type: ignore[attr-defined]
    assert set(bulkembed.__all__) <= set(dir(bulkembed))


def test_the_import_loads_none_of_the_heavy_libraries() -> None:
    heavy = ("apache_beam", "google.genai", "pyarrow", "numpy")
    code = f"import bulkembed, sys; print([name for name in {heavy} if name in sys.modules])"
    assert call(sys.executable, "-c", code).strip() == "[]"

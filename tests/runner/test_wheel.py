"""What is installed from the wheel is what a library's user gets."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

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
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("bulkembed-*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    call(*pip, "install", "--no-deps", "--no-index", wheel)
    return python


def test_the_package_is_imported_without_any_library(python: Path) -> None:
    code = "import bulkembed, sys; print(bulkembed.__version__, len(dir(bulkembed)), bulkembed)"
    said = call(python, "-I", "-c", code, where=python.parent)
    assert said.startswith(bulkembed.__version__)
    assert str(python.parents[1]) in said
    (installed,) = python.parents[1].glob("lib/python*/site-packages/bulkembed")
    assert (installed / "py.typed").exists()


def test_every_name_is_there_once_the_libraries_are(python: Path) -> None:
    # The wheel's own code with this environment's libraries, whose .pth files are not read.
    environ = {"PYTHONPATH": sysconfig.get_path("purelib")}
    code = (
        "from bulkembed import *; import bulkembed;"
        "print(bulkembed.transforms.__file__,"
        "*[name for name in bulkembed.__all__ if name in globals()])"
    )
    said = call(python, "-c", code, environ=environ, where=python.parent).split()
    assert said[0].startswith(str(python.parents[1]))
    assert said[1:] == bulkembed.__all__


def test_an_unknown_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'EmbedRow'"):
        _ = bulkembed.EmbedRow  # type: ignore[attr-defined]
    assert set(bulkembed.__all__) <= set(dir(bulkembed))


def test_the_import_loads_none_of_the_heavy_libraries() -> None:
    heavy = ("apache_beam", "google.genai", "pyarrow", "numpy")
    code = f"import bulkembed, sys; print([name for name in {heavy} if name in sys.modules])"
    assert call(sys.executable, "-c", code).strip() == "[]"

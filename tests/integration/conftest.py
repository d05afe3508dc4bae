from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.damage import make_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound dataset, not to be changed."""
    return make_dataset(tmp_path_factory.mktemp("verify"))


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "copy"))

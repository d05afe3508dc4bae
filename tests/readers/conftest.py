from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def python() -> str:
    """The Python that has the packages of readers.lock; `make test-readers` names it."""
    return os.environ["READERS"]


@pytest.fixture
def elsewhere(tmp_path: Path, at_home: dict[str, str]) -> dict[str, str]:
    """An environment in which those packages keep their files in a folder of the test."""
    home = tmp_path / "airflow"
    return {
        **at_home,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "HF_HOME": str(tmp_path / "hugging-face"),
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture
def offline_python(python: str, elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The same Python, for children that inherit this process's environment."""
    for name in ("HF_HOME", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, elsewhere[name])
    return python

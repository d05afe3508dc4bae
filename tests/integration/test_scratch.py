"""Temporary folders of dead runs go, and those of all others stay."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from pathlib import Path

import orjson
import pytest
from support.cli import process

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import ProcessId
from bulkembed.transforms.dataset import scratch
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.processes import this_process


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(place: Path, name: str, owner: ProcessId | None) -> Path:
    folder = place / f"{scratch.PREFIX}{name}"
    folder.mkdir()
    (folder / "123.live").touch()
    if owner is not None:
        (folder / "owner.json").write_bytes(orjson.dumps(dataclasses.asdict(owner)))
    return folder


def a_dead_process() -> ProcessId:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return dataclasses.replace(this_process(), pid=child, started=1)


def test_the_folder_of_a_dead_run_is_removed_and_others_are_not(place: Path) -> None:
    dead = a_dead_process()
    gone = left(place, "dead", dead)
    kept = [
        left(place, "alive", this_process()),
        left(place, "before-a-restart", dataclasses.replace(dead, boot="another")),
        left(place, "other-container", dataclasses.replace(dead, namespace="pid:[1]")),
        left(place, "without-an-owner", None),
    ]
    damaged = left(place, "damaged", None)
    (damaged / "owner.json").write_text("{")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner.json").write_bytes(orjson.dumps(dataclasses.asdict(dead)))
    (place / f"{scratch.PREFIX}link").symlink_to(elsewhere)
    with scratch.folder() as mine:
        assert not gone.exists()
        assert all(folder.exists() for folder in [*kept, damaged, elsewhere / "owner.json"])
    assert not mine.exists()


def test_without_a_temporary_directory_the_datasets_own_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_directory(monkeypatch)
    with scratch.usable(Dataset.open(str(tmp_path / "out"))), scratch.folder() as folder:
        assert folder.parent == tmp_path / "out/_run/tmp"
        assert os.environ["TMPDIR"] == str(folder.parent)
    assert not folder.parent.exists()


def test_without_one_and_on_a_store_the_variable_to_set_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_directory(monkeypatch)
    dataset = Dataset.open("s3://bucket/out?region=us-east-1")
    with pytest.raises(ConfigError, match="Set TMPDIR"), scratch.usable(dataset):
        pass


def no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tempfile finds it where nothing but the output can be written to."""
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)

    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "_get_default_tempdir", nowhere)


@pytest.mark.timeout(300)
def test_on_a_read_only_root_a_run_needs_its_output_only(tmp_path: Path) -> None:
    """In a mount namespace of its own, which needs the rights to make one."""
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a cat"}\n')
    script = (
        f"mount --bind {out} {out} && mount -o remount,bind,ro / && cd / && "
        f"exec python -m bulkembed run --input {tmp_path}/a.jsonl --output {out} "
        "--emulator --dim 128"
    )
    if process("unshare", "-m", "true").code:
        pytest.skip("no mount namespaces here")
    environ = {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere", "XDG_CACHE_HOME": ""}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = process("unshare", "-m", "sh", "-c", script, timeout_s=280, PATH=path, **environ)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert (out / "_SUCCESS").exists()

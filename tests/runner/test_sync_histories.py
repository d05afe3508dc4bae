"""Random histories of a mirrored catalogue: each night equals a dataset made from nothing."""

from __future__ import annotations

import gzip
import json
import random
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.catalogues import SYNC, loaded
from support.cli import bulkembed, read, run

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

Rows = dict[str, dict[str, Any]]
LONG = " ".join(f"Sentence {n} of a longer text." for n in range(30))


def new_text(chance: random.Random) -> str | None:
    kind = chance.random()
    if kind < 0.05:
        return chance.choice([None, "", "  "])
    if kind < 0.1:
        return f"poison {chance.randrange(5)}"
    if kind < 0.3:
        return f"{LONG} {chance.randrange(6)}. {LONG}"
    return f"text {chance.randrange(60)}"


def new_row(chance: random.Random) -> dict[str, Any]:
    return {"text": new_text(chance), "price": chance.randrange(5)}


def next_night(rows: Rows, chance: random.Random) -> Rows:
    rows = {name: dict(row) for name, row in rows.items()}
    for name in list(rows):
        event = chance.random()
        if event < 0.05:
            del rows[name]
        elif event < 0.15:
            rows[name]["text"] = new_text(chance)
        elif event < 0.25:
            rows[name]["price"] = chance.randrange(5)
    for _ in range(chance.randrange(8)):
        rows[f"p{chance.randrange(10_000)}"] = new_row(chance)
    return rows


def export(folder: Path, rows: Rows, chance: random.Random) -> None:
    """Write rows as JSONL files, with some lines that have no id or are no JSON."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    lines = [json.dumps({"id": name, **row}) for name, row in rows.items()]
    lines += ["not json", json.dumps({"text": "no id", "price": 1})]
    lines += [lines[-1]] * chance.randrange(2)
    chance.shuffle(lines)
    files = chance.randint(1, 4)
    for number in range(files):
        name, text = f"{chance.randrange(10**6)}.jsonl", "\n".join(lines[number::files])
        if chance.random() < 0.3:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)


def dead_letters(output: Path) -> list[tuple[str | None, str, str | None]]:
    if not (output / "dead_letters").exists():
        return []
    table = read(output, "dead_letters")
    names = ("id", "code", "text")
    return sorted(zip(*(table[n].to_pylist() for n in names), strict=True), key=repr)


@pytest.mark.parametrize("mode", ["truncate", "passages", "mean"])
def test_each_night_equals_a_dataset_made_from_nothing(tmp_path: Path, mode: str) -> None:
    seed = secrets.randbelow(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    source, output = tmp_path / "in", tmp_path / "out"
    passages = () if mode == "truncate" else ("--passage-tokens", 60)
    args = (*SYNC, "--max-delete", "100%", "--max-dead-letters", "90%", "--long-text", mode)
    rows: Rows = {f"p{n}": new_row(chance) for n in range(60)}
    settings = EmulatorSettings(poison="poison")
    with EmulatorServer(settings) as server:
        for night in range(5):
            export(source, rows, chance)
            ended = run(server.url, source, output, *args, *passages)
            assert ended.code == 0, (seed, night, ended.err)
            with EmulatorServer(settings) as other:
                whole = tmp_path / f"whole-{night}"
                assert run(other.url, source, whole, *args, *passages).code == 0
            assert loaded(output) == loaded(whole), (seed, night)
            assert dead_letters(output) == dead_letters(whole), (seed, night)
            verified = bulkembed("verify", output, "--against", source)
            assert verified.code == 0, (seed, night, verified.out)
            rows = next_night(rows, chance)

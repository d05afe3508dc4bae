"""The examples print and draw what docs/examples.md shows, with the emulator."""

from __future__ import annotations

import functools
import re
import sys
import tempfile
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from support.cli import Ended, process, python

from bulkembed.emulator.server import EmulatorServer
from examples.page import PICTURES, printed, python_of_page

pytestmark = pytest.mark.examples

MAX_BYTES = 80_000
EXAMPLE_S = 110
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")
PAGE = printed()

each_example = pytest.mark.parametrize("name", PAGE)


@functools.cache
def ended(name: str) -> tuple[Ended, Path]:
    """Run an example once, in its own folder, for all tests."""
    folder = Path(tempfile.mkdtemp())
    command = (sys.executable, "-m", f"examples.{name}")
    return process(*command, cwd=folder, timeout_s=EXAMPLE_S), folder


def out(name: str) -> str:
    done, _ = ended(name)
    assert done.code == 0, done.err
    return done.out


def number(pattern: str, text: str) -> float:
    """Return the number in the group of a pattern."""
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"{pattern!r} is not in\n{text}"
    return float(found[1].replace(",", "").rstrip("%"))


def numbers(line: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(line)]


@each_example
def test_the_output_says_that_the_emulator_made_the_vectors(name: str) -> None:
    assert "vectors by the local emulator (sums of word vectors, not Gemini)" in out(name)


@each_example
def test_no_library_warns(name: str) -> None:
    out(name)
    assert not re.search(r"warn|deprecat|fork", ended(name)[0].err, re.IGNORECASE)


@each_example
def test_an_example_draws_a_picture(name: str) -> None:
    out(name)
    drawn = ended(name)[1] / f"out/examples/{name}.png"
    pixels = matplotlib.image.imread(drawn)
    assert pixels.std() > 0.05
    assert min(pixels.shape[:2]) >= 300
    assert drawn.stat().st_size < MAX_BYTES


@each_example
def test_the_page_shows_what_the_example_prints(name: str) -> None:
    if python_of_page() != sys.version.split()[0]:
        pytest.skip(f"the page is about the texts of Python {python_of_page()}")
    printed_now, shown = out(name), PAGE[name]
    assert NUMBER.sub("0", printed_now).split() == NUMBER.sub("0", shown).split()
    # LanceDB's index starts by chance; another processor adds up in another order.
    np.testing.assert_allclose(numbers(printed_now), numbers(shown), rtol=0.05, atol=0.1)


@each_example
def test_the_page_has_a_small_picture(name: str) -> None:
    assert 5_000 < (PICTURES / f"{name}.png").stat().st_size < MAX_BYTES


def test_questions_find_their_topics_and_differences_of_task_types_are_called_noise() -> None:
    text = out("retrieval")
    scores = {
        line.split()[0]: [float(value) for value in line.split()[1:]]
        for line in text.splitlines()
        if re.fullmatch(r"[A-Z_a-z]+ +[\d.]+ +[\d.]+ +[\d.]+", line)
    }
    chance = scores.pop("chance")
    assert set(scores) == {"QUESTION_ANSWERING", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT"}
    for first, among_five, mean in scores.values():
        assert first > 0.25 > 5 * chance[0]
        assert among_five > 0.6 > 5 * chance[1]
        assert mean > 0.4 > 5 * chance[2]
    assert "these differences are noise" in text
    assert "break" in text.split("$ bulkembed search")[1]


def test_clusters_are_better_than_random_and_show_the_known_trend() -> None:
    text = out("clustering")
    assert number(r"clusters (\S+),", text) > 0.08
    assert number(r"of the same sizes (\S+)$", text) < 0.01
    gone = number(r"^braille.*\d% +\d+ +(\S+)%", text), number(r"^braille.* (\S+)%$", text)
    come = number(r"^face.*\d% +\d+ +(\S+)%", text), number(r"^face.* (\S+)%$", text)
    assert gone[0] > 5 > 1 > gone[1]
    assert come[0] < 1 < 2 < come[1]


def test_a_model_trained_on_the_vectors_beats_the_largest_class() -> None:
    text = out("classification")
    assert number(r"^logistic regression +(\S+)", text) > 0.7
    assert number(r"^logistic regression .* (\S+)$", text) > 0.7
    assert number(r"^always \w+ +(\S+)", text) < 0.3


def test_databases_agree_with_exact_search() -> None:
    text = out("vector_database")
    assert number(r"^DuckDB, all rows +(\S+)$", text) == 1
    assert number(r"^LanceDB, all rows +(\S+)$", text) == 1
    assert number(r"^LanceDB, 8 of 8 partitions +(\S+)$", text) == 1
    assert 0.4 < number(r"^LanceDB, 2 of 8 partitions +(\S+)$", text) < 1
    assert number(r"^LanceDB, 4 of 8 partitions +(\S+)$", text) > 0.7
    assert "DuckDB and LanceDB agree on the first 10: yes" in text


def test_a_sentence_finds_its_function() -> None:
    text = out("code_retrieval")
    assert number(r"^(\d+) functions,", text) > 300
    for task in ("CODE_RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT"):
        assert number(rf"^{task} +(\S+)", text) > 0.15
        assert number(rf"^{task} +\S+ +(\S+)", text) > 0.5
    assert number(r"^chance +\S+ +(\S+)", text) < 0.05


def test_cosines_follow_the_grades_and_the_output_mentions_the_traps() -> None:
    text = out("similarity")
    assert number(r"same subject: (\d+) of 12", text) >= 9
    assert number(r"without the traps: (\S+)$", text) > 0.8
    assert number(r"trap +(\S+)  The dog", text) > 0.99
    assert "ignores word order" in text


def test_words_find_their_images_and_copies_are_found() -> None:
    text = out("image_search")
    assert number(r"^(\d+) images, 36 queries", text) > 100
    assert number(r"^first image is right +(\S+)$", text) > 0.95
    assert number(r"^first 3 images are right +(\S+)$", text) > 0.9
    assert number(r"^chance +(\S+)$", text) < 0.05
    made = number(r"^copies that were made: (\d+)$", text)
    assert number(r"of which copies: (\d+)$", text) == made == 12
    assert number(r"over 0.995: (\d+),", text) <= made + 3


def test_with_a_key_an_example_uses_the_service_and_says_so(tmp_path: Path) -> None:
    with EmulatorServer() as server:
        done = python(
            "-m", "examples.similarity", cwd=tmp_path,
            GEMINI_API_KEY="a-key", ARGS=f"--base-url {server.url}",
        )  # fmt: skip
        assert server.stats()["texts"] > 30
    assert done.code == 0, done.err
    assert "vectors by gemini-embedding-001 (custom" in done.out
    assert "--emulator" not in done.out
    assert "emulator adds up" not in done.out
    assert (tmp_path / "out/examples/similarity-gemini/vectors/_SUCCESS").exists()

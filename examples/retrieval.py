"""Information retrieval: answer questions from Python's language reference.

Passages are embedded as RETRIEVAL_DOCUMENT, questions as QUESTION_ANSWERING or RETRIEVAL_QUERY.
The questions were written by hand, each with the topic that answers it. The score is how often a
passage of that topic is among the first k.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pydoc_data.topics import topics

import numpy as np
from matplotlib.figure import Figure

from examples.shared import (
    BLUE,
    DIM,
    EMULATOR,
    GREEN,
    GREY,
    ORANGE,
    Floats,
    bulkembed,
    folder_of,
    read,
    save,
    write,
)

PASSAGE_CHARS = 900
RULES = re.compile(r"[*=\-]{4,}")
"""Lines under headings."""
QUESTIONS = [
    ("How do I leave a loop before it is finished?", "break"),
    ("How can I skip to the next round of a loop?", "continue"),
    ("What does a coroutine wait for, and how do I suspend it?", "await"),
    ("How do I write an anonymous function in one expression?", "lambda"),
    ("How can an inner function rebind a variable of the enclosing function?", "nonlocal"),
    ("How do I change a module-level variable from inside a function?", "global"),
    ("How do I make sure that a file is closed when a block ends?", "with"),
    ("How do I catch an error and run clean-up code whatever happens?", "try"),
    ("How do I throw an exception with another one as its cause?", "raise"),
    ("How do I check a condition while debugging and fail if it is false?", "assert"),
    ("How do I load a name from another module in the same package?", "import"),
    ("How do I remove a name or an item of a list?", "del"),
    ("Which values count as false in a condition?", "truth"),
    ("How do I shift the bits of an integer to the left?", "shifting"),
    ("Which operators work on single bits: and, or, exclusive or?", "bitwise"),
    ("How do I raise a number to a power?", "power"),
    ("How do I write numbers in hexadecimal, octal or binary?", "integers"),
    ("How is the imaginary part of a complex number written?", "imaginary"),
    ("How do I step through a program line by line and set breakpoints?", "debugger"),
    ("How do I pad a number with zeros to a width when formatting it?", "formatstrings"),
    ("How do I split a text into words at white space?", "string-methods"),
    ("How do I write a raw string in which backslashes are kept?", "strings"),
    ("What is the difference between being equal and being the same object?", "comparisons"),
    ("How do I look a key up in a dictionary with a default value?", "typesmapping"),
    ("How do I append, insert or sort elements of a list in place?", "typesseq-mutable"),
    ("How do I write a decorator above a function definition?", "function"),
    ("How do I pass a variable number of keyword arguments to a function?", "calls"),
    ("How do I assign several variables at once by unpacking?", "assignment"),
    ("How do I add to a variable in place, as with plus equals?", "augassign"),
    ("Which characters may a variable name have?", "identifiers"),
    ("Which operator binds tighter than the others?", "operator-summary"),
    ("How do I intercept access to attributes that do not exist?", "attribute-access"),
    ("How do I give objects a readable representation when printed?", "customization"),
    ("How do I iterate asynchronously over a stream?", "async"),
    ("How do I do nothing where a statement is required?", "pass"),
    ("How do I take every second element of a sequence?", "slicings"),
]
QUESTION_TASKS = ("QUESTION_ANSWERING", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT")
"""The last one shows a search without task types: question and document are embedded alike."""


def passages() -> Iterator[dict[str, str]]:
    """Yield passages of the topics; a paragraph of several topics goes to the shortest topic."""
    seen = set()
    for topic in sorted(topics, key=lambda name: len(topics[name])):
        passage = ""
        for paragraph in topics[topic].split("\n\n"):
            words = " ".join(RULES.sub(" ", paragraph).split())
            if words in seen:
                continue
            seen.add(words)
            if passage and len(passage) + len(words) > PASSAGE_CHARS:
                yield {"topic": topic, "text": passage}
                passage = ""
            passage = f"{passage}\n{words}".strip()
        if passage:
            yield {"topic": topic, "text": passage}


def ranks(found: Floats, questions: Floats, topic_of: list[str]) -> list[int]:
    """Return, for each question, the rank from 1 of the first passage of its topic."""
    nearest = np.argsort(-(questions @ found.T), axis=1)
    return [
        1 + next(i for i, row in enumerate(order) if topic_of[row] == topic)
        for order, (_, topic) in zip(nearest, QUESTIONS, strict=True)
    ]


def chance(found: Floats, topic_of: list[str]) -> list[int]:
    """Return the ranks of random questions, as a baseline."""
    random = np.random.default_rng(0)
    samples = (
        random.standard_normal((len(QUESTIONS), found.shape[1]), np.float32) for _ in range(50)
    )
    return [rank for questions in samples for rank in ranks(found, questions, topic_of)]


def score(found: list[int]) -> dict[str, float]:
    """Return how often the answer is first or among five, and the mean of 1 / rank."""
    rank = np.array(found)
    return {
        "hit@1": float((rank == 1).mean()),
        "hit@5": float((rank <= 5).mean()),
        "MRR": float((1 / rank).mean()),
    }


def draw(scores: dict[str, dict[str, float]]) -> Figure:
    """Draw a group of bars for each measure, with a bar for each task type."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    for nth, (name, values) in enumerate(scores.items()):
        places = np.arange(len(values)) + 0.2 * nth
        colour = (BLUE, GREEN, ORANGE, GREY)[nth]
        bars = axes.bar(places, list(values.values()), 0.18, label=name, color=colour)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(np.arange(3) + 0.3, ["right topic first", "among the first 5", "mean 1 / rank"])
    axes.set(
        ylim=(0, 1), ylabel="score of 36 questions", title="Questions to the language reference"
    )
    axes.legend(title="question embedded as", frameon=False, fontsize=8, title_fontsize=8)
    return figure


def main() -> None:
    """Run the example."""
    folder = folder_of("retrieval")
    documents = write(
        folder / "documents.parquet", ({"id": n, **row} for n, row in enumerate(passages()))
    )
    bulkembed(
        *("run", "--input", documents, "--output", folder / "documents"),
        *("--task-type", "RETRIEVAL_DOCUMENT", "--dim", DIM, "--keep-columns", "topic,text"),
    )
    rows, found, service = read(folder / "documents")
    topic_of = [row["topic"] for row in rows]

    questions = write(
        folder / "questions.parquet",
        ({"id": n, "text": text} for n, (text, _) in enumerate(QUESTIONS)),
    )
    scores = {}
    for task in QUESTION_TASKS:
        output = folder / f"as-{task.lower()}"
        bulkembed(
            "run", "--input", questions, "--output", output, "--task-type", task, "--dim", DIM
        )
        scores[task] = score(ranks(found, read(output).vectors, topic_of))
    scores["chance"] = score(chance(found, topic_of))

    print(f"\n{len(QUESTIONS)} questions, {len(rows)} passages of {len(set(topic_of))} topics")
    print(f"vectors by {service}\n")
    print(f"{'question embedded as':<22}  hit@1  hit@5    MRR")
    for name, values in scores.items():
        print(f"{name:<22}" + "".join(f"{value:>7.2f}" for value in values.values()))
    if service == EMULATOR:
        print(
            "\nThe emulator rotates each vector a little by its task type, which adds no meaning:\n"
            "these differences are noise. Gemini was trained to use task types."
        )
    print()
    bulkembed(
        "search", folder / "documents", QUESTIONS[0][0], "-k", "3", "--task-type", QUESTION_TASKS[0]
    )
    save(draw(scores), "retrieval", service)


if __name__ == "__main__":
    main()

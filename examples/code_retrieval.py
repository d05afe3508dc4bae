"""Code retrieval: find a function by what it does.

Functions of the standard library are embedded as RETRIEVAL_DOCUMENT, without their docstrings. The
first sentences of the docstrings are the questions, embedded as CODE_RETRIEVAL_QUERY. So each
question has one right answer, and its words are not in the code.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from examples.shared import (
    BLUE,
    DIM,
    GREY,
    ORANGE,
    Floats,
    bulkembed,
    folder_of,
    read,
    save,
    write,
)

MODULES = (
    *("ast", "base64", "bisect", "calendar", "cmd", "codecs", "colorsys", "configparser", "copy"),
    *("difflib", "dis", "fileinput", "filecmp", "fnmatch", "fractions", "functools", "getopt"),
    *("glob", "gzip", "heapq", "html", "inspect", "ipaddress", "linecache", "locale", "mimetypes"),
    *("os", "pathlib", "pickle", "pprint", "queue", "random", "reprlib", "sched", "selectors"),
    *("shlex", "shutil", "smtplib", "socket", "statistics", "string", "subprocess", "tempfile"),
    *("textwrap", "threading", "tokenize", "traceback", "types", "uuid", "warnings", "weakref"),
)
QUESTION_TASKS = ("CODE_RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT")
"""The last one shows a search without task types: question and code are embedded alike."""
MAX_K = 100
"""The largest k in the picture."""

Ranks = npt.NDArray[np.int64]


def functions() -> Iterator[dict[str, str]]:
    """Yield functions with a sentence as docstring and more than one statement."""
    for module in MODULES:
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.has_location:
            continue
        tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                sentence = (ast.get_docstring(node) or "").split("\n\n")[0].split(". ")[0]
                node.body = node.body[1:]
                if len(sentence.split()) >= 5 and len(node.body) > 1:
                    name = f"{module}.{node.name}:{node.lineno}"
                    yield {"id": name, "text": ast.unparse(node), "question": sentence}


def ranks(code: Floats, questions: Floats) -> Ranks:
    """Return, for each question, the rank from 1 of its function."""
    cosines = questions @ code.T
    right = np.diagonal(cosines)[:, None]
    return np.asarray((cosines > right).sum(axis=1) + 1)


def draw(found: dict[str, Ranks], functions: int) -> Figure:
    """Draw the share of questions that find their function among the first k, by k."""
    figure = Figure(figsize=(6.8, 4), layout="constrained")
    axes = figure.subplots()
    first = np.arange(1, MAX_K + 1)
    for (name, rank), colour, style in zip(found.items(), (BLUE, ORANGE), ("-", "--"), strict=True):
        share = [100 * (rank <= k).mean() for k in first]
        axes.plot(first, share, color=colour, linestyle=style, label=name)
    axes.plot(first, 100 * first / functions, color=GREY, linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    axes.set(xlabel="functions looked at, k", ylabel="% of questions answered", ylim=(0, 100))
    axes.set_title(f"A sentence finds its function among {functions}")
    axes.legend(title="question embedded as", frameon=False, fontsize=8, title_fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def main() -> None:
    """Run the example."""
    folder = folder_of("code_retrieval")
    rows = list(functions())
    code = write(folder / "functions.parquet", rows)
    bulkembed(
        *("run", "--input", code, "--output", folder / "functions"),
        *("--task-type", "RETRIEVAL_DOCUMENT", "--dim", DIM),
    )
    _, vectors, service = read(folder / "functions")
    found = {}
    for task in QUESTION_TASKS:
        output = folder / f"as-{task.lower()}"
        bulkembed(
            *("run", "--input", code, "--text-column", "question", "--output", output),
            *("--task-type", task, "--dim", DIM),
        )
        found[task] = ranks(vectors, read(output).vectors)

    print(f"\nvectors by {service}")
    print(f"{len(rows)} functions, each with the first sentence of its docstring as the question\n")
    print(f"{'question embedded as':<22}  hit@1  hit@10    MRR")
    for name, rank in {**found, "chance": np.arange(1, len(rows) + 1)}.items():
        first, among_ten, mean = (rank == 1).mean(), (rank <= 10).mean(), (1 / rank).mean()
        print(f"{name:<22}  {first:>5.2f}  {among_ten:>6.2f}  {mean:>5.2f}")
    save(draw(found, len(rows)), "code_retrieval", service)


if __name__ == "__main__":
    main()

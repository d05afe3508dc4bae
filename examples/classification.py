"""Classification: train a model on the vectors.

Which package of the standard library does a docstring come from?  A logistic regression is trained
on three quarters of the docstrings and tested on the others; no text is in both. The baseline is
to always name the largest package.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from sklearn.model_selection import train_test_split

from examples.shared import DIM, bulkembed, folder_of, read, save, unique_docstrings, write

PACKAGES = (
    "asyncio",
    "email",
    "http",
    "importlib",
    "logging",
    "multiprocessing",
    "unittest",
    "xml",
)
Labels = npt.NDArray[np.str_]


def draw(truth: Labels, predicted: Labels, names: Labels) -> Figure:
    """Draw the confusion matrix, each row in per cent of the package's docstrings."""
    share = 100 * confusion_matrix(truth, predicted, labels=names, normalize="true")
    figure = Figure(figsize=(6.4, 4.8), layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(share.shape):
        ink = "white" if share[row, column] > 50 else "black"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="package that the model names", ylabel="package of the docstring")
    axes.set_title("Docstrings that the model had not seen")
    figure.colorbar(image, label="% of the package's docstrings")
    return figure


def main() -> None:
    """Run the example."""
    folder = folder_of("classification")
    source = write(folder / "docstrings.parquet", unique_docstrings(PACKAGES))
    bulkembed(
        *("run", "--input", source, "--output", folder / "vectors"),
        *("--task-type", "CLASSIFICATION", "--dim", DIM, "--keep-columns", "package"),
    )
    rows, vectors, service = read(folder / "vectors")
    print(f"\nvectors by {service}")

    labels = np.array([row["package"] for row in rows])
    train_vectors, test_vectors, train_labels, truth = train_test_split(
        vectors, labels, test_size=0.25, stratify=labels, random_state=0
    )
    model = LogisticRegression(C=30, class_weight="balanced", max_iter=2000).fit(
        train_vectors, train_labels
    )
    predicted = model.predict(test_vectors)

    names, counts = np.unique(train_labels, return_counts=True)
    largest = names[counts.argmax()]
    trained, tested = len(train_vectors), len(test_vectors)
    print(f"trained on {trained:,} docstrings of {len(names)} packages, tested on {tested}\n")
    print("                            accuracy  macro F1")
    for name, answer in {
        "logistic regression": predicted,
        f"always {largest}": np.full(len(truth), largest),
    }.items():
        f1 = f1_score(truth, answer, average="macro", zero_division=0)
        print(f"{name:<26}  {accuracy_score(truth, answer):>8.2f}  {f1:>8.2f}")
    print("\npackage         tested  right")
    for name in names:
        of_package = truth == name
        print(f"{name:<15}  {of_package.sum():>5}  {(predicted[of_package] == name).mean():>5.0%}")
    save(draw(truth, predicted, names), "classification", service)


if __name__ == "__main__":
    main()

"""Semantic similarity: which sentences say the same?

A heat map compares twelve sentences of four subjects. Ten more pairs were graded by hand, from 0
(nothing in common) to 5 (the same meaning): do their cosines have the order of the grades?  The
last pairs are traps: the same words with another meaning.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from examples.shared import DIM, EMULATOR, Floats, bulkembed, folder_of, read, save, write

SUBJECTS = {
    "pets": [
        "The puppy chased a ball across the garden.",
        "Our dog loves to run after balls in the yard.",
        "A kitten is asleep on the sofa.",
    ],
    "money": [
        "Shares fell sharply after the bank's results.",
        "The stock market dropped when profits disappointed.",
        "Interest rates will rise again in spring.",
    ],
    "weather": [
        "Heavy rain is expected over the coast tonight.",
        "A storm will bring showers to the seaside this evening.",
        "The sky stays clear and sunny all week.",
    ],
    "cooking": [
        "Boil the pasta in salted water for nine minutes.",
        "Cook the spaghetti until it is tender, then drain it.",
        "Whisk the eggs with sugar and flour for the cake.",
    ],
}
PAIRS = [
    (5, "A man is playing the guitar.", "A man plays a guitar."),
    (5, "The child is riding a bicycle.", "A kid is riding a bike."),
    (4, "The flight was cancelled because of fog.", "Bad weather grounded the plane."),
    (4, "She bought a new car last week.", "She purchased a vehicle a few days ago."),
    (2, "The doctor examined the patient.", "The hospital hired three nurses."),
    (2, "He repaired the roof of his house.", "They painted the kitchen walls."),
    (1, "The team won the final match.", "The museum opens at ten."),
    (0, "Birds build nests in spring.", "The invoice was paid by credit card."),
    (0, "The train leaves from platform two.", "Add a pinch of salt to the soup."),
    (0, "The court rejected the appeal.", "My sister grows tomatoes."),
]
TRAPS = [
    ("The dog bites the man.", "The man bites the dog."),
    ("The film was good.", "The film was not good."),
]


def draw(sentences: list[str], cosines: Floats) -> Figure:
    """Draw a heat map of all pairs, with the cosine in each cell."""
    figure = Figure(figsize=(8.2, 4.6), layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(cosines, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(cosines.shape):
        value = cosines[row, column].round(1) + 0.0  # no "-0.0"
        ink = "white" if value > 0.5 else "black"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink, fontsize=7)
    axes.set_xticks(range(len(sentences)), [str(nth + 1) for nth in range(len(sentences))])
    labels = [f"{sentence}  {nth}" for nth, sentence in enumerate(sentences, 1)]
    axes.set_yticks(range(len(sentences)), labels, fontsize=8)
    axes.set_title("Cosines of twelve sentences, three to a subject", fontsize=10)
    figure.colorbar(image, label="cosine (below 0 drawn as 0)")
    return figure


def main() -> None:
    """Run the example."""
    folder = folder_of("similarity")
    sentences = [sentence for group in SUBJECTS.values() for sentence in group]
    pairs = [*(pair[1:] for pair in PAIRS), *TRAPS]
    texts = [*sentences, *(text for pair in pairs for text in pair)]
    source = write(
        folder / "sentences.parquet", ({"id": n, "text": text} for n, text in enumerate(texts))
    )
    bulkembed(
        *("run", "--input", source, "--output", folder / "vectors"),
        *("--task-type", "SEMANTIC_SIMILARITY", "--dim", DIM),
    )
    _, found, service = read(folder / "vectors")
    print(f"\nvectors by {service}")

    twelve = found[: len(sentences)]
    cosines = twelve @ twelve.T
    subject_of = np.repeat(list(SUBJECTS), [len(group) for group in SUBJECTS.values()])
    nearest = np.argmax(cosines - 2 * np.eye(len(sentences)), axis=1)
    right = int((subject_of[nearest] == subject_of).sum())
    print(f"nearest sentence has the same subject: {right} of {len(sentences)}\n")

    left, right_side = found[len(sentences) :: 2], found[len(sentences) + 1 :: 2]
    scores = (left * right_side).sum(axis=1)
    print("grade  cosine  pair")
    for (grade, *_), score, pair in zip([*PAIRS, *[("trap",)] * 2], scores, pairs, strict=True):
        print(f"{grade:>5}  {score:>6.2f}  {' | '.join(pair)}")
    grades = [grade for grade, *_ in PAIRS]
    order = spearmanr(grades, scores[: len(grades)]).statistic
    print(f"\nrank correlation of grades and cosines, without the traps: {order:.2f}")
    if service == EMULATOR:
        print("The emulator adds up word vectors, so it ignores word order: see the traps.")
    save(draw(sentences, cosines), "similarity", service)


if __name__ == "__main__":
    main()

"""Clustering: find hidden trends.

What has Unicode been adding?  The names of its symbols are clustered, and each cluster is labelled
with its most distinctive words. Python knows which symbols Unicode 3.2 had in 2002, so each theme
has a share of these and a share of the symbols that were added later.
"""

from __future__ import annotations

import random
import sys
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import silhouette_score

from examples.shared import BLUE, DIM, GREY, VERMILION, bulkembed, folder_of, read, save, write

SYMBOLS = 2_000
"""The size of a random sample of about 6,600 symbols."""
THEMES = 24
NAME_WORDS = 3

Bools = npt.NDArray[np.bool_]


class Theme(NamedTuple):
    """A cluster: its words, how many of its names have one of them, its shares then and later."""

    words: str
    fit: float
    symbols: int
    then: float
    later: float


def symbols() -> list[dict[str, object]]:
    """Return a sample of Unicode's symbols: code point, name, and whether it is newer than 2002."""
    every = (chr(point) for point in range(sys.maxunicode + 1))
    found = [one for one in every if unicodedata.category(one) == "So"]
    picked = sorted(random.Random(0).sample(found, SYMBOLS))
    return [
        {
            "id": f"U+{ord(one):04X}",
            "text": unicodedata.name(one).lower(),
            "new": not unicodedata.ucd_3_2_0.name(one, ""),
        }
        for one in picked
    ]


def themes(clusters: npt.NDArray[np.int32], texts: list[str], new: Bools) -> list[Theme]:
    """Return the clusters, those that have grown most first.

    A word is distinctive if many of the cluster's names have it and few others do.
    """
    counter = CountVectorizer(
        binary=True, min_df=5, stop_words="english", token_pattern=r"\b[a-z]{3,}\b"
    )
    has_word = counter.fit_transform(texts).toarray()
    words, everywhere = counter.get_feature_names_out(), has_word.mean(axis=0)
    found = []
    for cluster in range(THEMES):
        inside = clusters == cluster
        here = has_word[inside].mean(axis=0)
        apart = here * np.log((here + 1e-3) / (everywhere + 1e-3))
        best = np.argsort(-apart)[:NAME_WORDS]
        fit = has_word[inside][:, best].any(axis=1).mean()
        then, later = inside[~new].mean(), inside[new].mean()
        name = ", ".join(words[best]) if fit > 0.5 else "(no words in common)"
        found.append(Theme(name, fit, inside.sum(), then, later))
    return sorted(found, key=lambda theme: theme.then - theme.later)


def draw(found: list[Theme]) -> Figure:
    """Draw a line for each theme, from its share in 2002 to its share of later symbols."""
    figure = Figure(figsize=(7.4, 4.8), layout="constrained")
    axes = figure.subplots()
    places = range(len(found), 0, -1)
    then = [100 * theme.then for theme in found]
    later = [100 * theme.later for theme in found]
    axes.hlines(places, then, later, color=GREY, linewidth=2, zorder=1)
    axes.scatter(then, places, color=BLUE, marker="s", label="in Unicode 3.2, 2002", zorder=2)
    axes.scatter(later, places, color=VERMILION, label="added since", zorder=2)
    axes.set_yticks(places, [theme.words for theme in found], fontsize=8)
    axes.set(xlabel="% of the symbols", xlim=(-1, None))
    axes.set_title("What Unicode's symbols are about")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Run the example."""
    folder = folder_of("clustering")
    source = write(folder / "symbols.parquet", symbols())
    bulkembed(
        *("run", "--input", source, "--output", folder / "vectors"),
        *("--task-type", "CLUSTERING", "--dim", DIM, "--keep-columns", "text,new"),
    )
    rows, vectors, service = read(folder / "vectors")
    print(f"\nvectors by {service}")

    model = KMeans(THEMES, n_init=4, random_state=0).fit(vectors)
    shuffled = np.random.default_rng(0).permutation(model.labels_)
    new = np.array([row["new"] for row in rows])
    found = themes(model.labels_, [row["text"] for row in rows], new)

    print(f"{len(rows):,} symbols of Unicode {unicodedata.unidata_version}: ", end="")
    print(f"{(~new).sum()} existed in 2002, {new.sum():,} were added later")
    print(
        f"silhouette of {THEMES} clusters {silhouette_score(vectors, model.labels_):.2f}, "
        f"of random clusters of the same sizes {silhouette_score(vectors, shuffled):.2f}\n"
    )
    print(f"{'distinctive words of the cluster':<34} fit  symbols  in 2002  since")
    for theme in found:
        print(
            f"{theme.words:<33} {theme.fit:>4.0%}  {theme.symbols:>7}  "
            f"{theme.then:>7.1%}  {theme.later:>5.1%}"
        )
    save(draw(found), "clustering", service)


if __name__ == "__main__":
    main()

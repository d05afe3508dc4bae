"""Clusters are named by their most distinctive words."""

from __future__ import annotations

import pytest

from bulkembed.pipeline.report.clusters import name_clusters, words


def named(*clusters: list[str]) -> list[list[str]]:
    texts = [text for cluster in clusters for text in cluster]
    of = [number for number, cluster in enumerate(clusters) for _ in cluster]
    return name_clusters(texts, of, len(clusters))


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        pytest.param(
            ["the dog is at the vet", "a dog and the vet", "to the cinema"],
            ["the shares of a bank", "shares and the bank", "with the tram"],
            [["dog", "vet"], ["bank", "shares"]],
            id="english",
        ),
        pytest.param(
            ["der Hund und die Leine", "ein Hund und die Leine", "im Kino und die Nacht"],
            ["der Kurs und die Börse", "ein Kurs und die Börse", "im Zug und die Fahrt"],
            [["hund", "leine"], ["börse", "kurs"]],
            id="stop-words-of-another-language",
        ),
        pytest.param(
            ["我的狗去看兽医", "兽医喜欢狗", "一家电影院"],
            ["股票下跌了", "股票和银行", "一辆电车"],
            [["兽医"], ["股票"]],
            id="no-spaces",
        ),
    ],
)
def test_a_name_has_the_words_that_only_its_cluster_has(
    one: list[str], other: list[str], names: list[list[str]]
) -> None:
    assert [sorted(name) for name in named(one, other)] == names


def test_a_name_has_only_one_of_several_words_with_the_same_beginning() -> None:
    [name, _] = named(["test tests testing"] * 4, ["bank shares"] * 8)
    assert name == ["test"]


def test_without_words_there_are_no_names() -> None:
    assert named(["1 2 3", "4 5"], ["", "!"]) == [[], []]
    assert named(["only once"], ["never again"]) == [[], []]
    assert name_clusters([], [], 3) == [[], [], []]


def test_a_word_has_three_letters_and_no_digit() -> None:
    assert list(words("An ox, x86 and the IMAP4rev1 SERVER_PORT")) == [
        "imap", "rev", "server", "port",
    ]  # fmt: skip

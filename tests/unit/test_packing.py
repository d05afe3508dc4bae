from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.content import REQUEST_BYTES, TextContent, json_bytes, within_body
from bulkembed.transforms.core.packing import CallCount, CallLimits, halves, pack, within
from bulkembed.transforms.core.tokens import NO_FEATURES

SIZES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3000)), max_size=60)
LIMITS = st.builds(
    CallLimits,
    texts=st.integers(1, 9),
    tokens=st.none() | st.integers(1, 150),
    body_bytes=st.none() | st.integers(1, 9000),
)


def items(sizes: Sequence[tuple[int, int]]) -> list[TextContent]:
    return [
        TextContent(index, b"", tokens, body_bytes, NO_FEATURES, False, None, "")
        for index, (tokens, body_bytes) in enumerate(sizes)
    ]


@given(SIZES, LIMITS)
def test_every_text_is_in_one_call_and_in_order(
    sizes: list[tuple[int, int]], limits: CallLimits
) -> None:
    calls = pack(items(sizes), limits)
    assert [item.index for call in calls for item in call] == list(range(len(sizes)))
    assert all(calls)


@given(SIZES, LIMITS)
def test_a_call_keeps_every_bound_or_has_one_text(
    sizes: list[tuple[int, int]], limits: CallLimits
) -> None:
    for call in pack(items(sizes), limits):
        assert within(call, limits)
        assert len(call) <= limits.texts
        if len(call) > 1:
            assert limits.tokens is None or sum(i.tokens for i in call) <= limits.tokens
            size = sum(i.body_bytes + REQUEST_BYTES for i in call)
            assert limits.body_bytes is None or size <= limits.body_bytes


@given(SIZES, LIMITS, st.integers(0, 60))
def test_calls_are_counted_as_they_are_packed(
    sizes: list[tuple[int, int]], limits: CallLimits, at: int
) -> None:
    whole, count = items(sizes), CallCount(limits)
    assert count.add(whole[:at]) + count.add(whole[at:]) == len(pack(whole, limits))


@given(SIZES, LIMITS)
def test_no_call_had_room_for_the_text_after_it(
    sizes: list[tuple[int, int]], limits: CallLimits
) -> None:
    calls = pack(items(sizes), limits)
    for call, following in itertools.pairwise(calls):
        assert not within([*call, following[0]], limits)


@pytest.mark.parametrize(
    ("limits", "sizes", "expected"),
    [
        pytest.param(CallLimits(texts=2), [(1, 1)] * 5, [2, 2, 1], id="by-texts"),
        pytest.param(CallLimits(tokens=10), [(5, 1)] * 4, [2, 2], id="exact-fit-of-tokens"),
        pytest.param(CallLimits(tokens=10), [(5, 1), (6, 1), (4, 1)], [1, 2], id="by-tokens"),
        pytest.param(
            CallLimits(body_bytes=2 * (REQUEST_BYTES + 80)), [(1, 80)] * 3, [2, 1],
            id="exact-fit-of-bytes",
        ),
        pytest.param(CallLimits(tokens=10), [(1, 1), (99, 1), (1, 1)], [1, 1, 1], id="too-many"),
        pytest.param(CallLimits(body_bytes=1), [(1, 1)] * 2, [1, 1], id="all-oversize"),
        pytest.param(CallLimits(), [], [], id="nothing"),
        pytest.param(CallLimits(), [(9, 9)] * 250, [100, 100, 50], id="as-the-service-says"),
    ],
)  # fmt: skip
def test_a_call_ends_where_a_bound_is_reached(
    limits: CallLimits, sizes: list[tuple[int, int]], expected: list[int]
) -> None:
    assert [len(call) for call in pack(items(sizes), limits)] == expected


@given(SIZES.filter(bool))
def test_two_halves_have_all_texts(sizes: list[tuple[int, int]]) -> None:
    whole = items(sizes)
    first, second = halves(whole)
    assert [*first, *second] == whole
    assert len(first) - len(second) in (0, 1)


@pytest.mark.parametrize(
    ("text", "size"), [("a", 3), ("\n", 4), ("\u4e2d", 8), ("\U0001f600", 14), ('"', 4)]
)
def test_a_text_is_measured_as_the_sdk_escapes_it(text: str, size: int) -> None:
    assert json_bytes(text) == size == len(json.dumps(text).encode())


@given(st.text(max_size=60), st.integers(2, 400))
def test_the_longest_beginning_that_fits_into_a_body_is_found(text: str, max_bytes: int) -> None:
    part = within_body(text, max_bytes)
    assert text.startswith(part)
    assert json_bytes(part) <= max_bytes
    assert part == text or json_bytes(text[: len(part) + 1]) > max_bytes

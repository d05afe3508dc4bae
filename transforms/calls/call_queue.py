"""The contents that wait to be sent, in order; a call is formed when it may be sent, not before."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import math
from collections.abc import Sequence

from bulkembed.transforms.calls.deliveries import Delivery, Portion, contents_of, split_at
from bulkembed.transforms.calls.retry import Attempts
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.packing import CallLimits, fitting, within
from bulkembed.transforms.core.part_calls import LOOK_AHEAD
from bulkembed.transforms.core.tokens import NO_FEATURES, Features, TokenEstimator, sum_features

MARGIN_AFTER_429, MAX_MARGINS = 1.25, 6
"""How much more is reserved for a call after each 429: its tokens may have been estimated too low.
Otherwise it would get the next 429 as soon as it may be sent."""
LINGER_S = 0.1
"""How long contents that do not fill a call wait for others that are on their way."""


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """Contents that are sent together, whose they are, and how often they were sent."""

    portions: Sequence[Portion]
    attempts: Attempts
    contents: list[Content] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.contents = contents_of(self.portions)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a result."""
        return any(portion.delivery.is_open for portion in self.portions)

    def release(self) -> None:
        """End without a result."""
        for portion in self.portions:
            portion.delivery.release(len(portion.contents))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A call that could be sent next; its contents are still in the queue."""

    contents: Sequence[Content]
    features: Features
    tokens: int
    """What to reserve for it."""
    is_full: bool
    """Whether it holds as much as the limits allow."""
    arrived_at: float
    """When the oldest of its contents came, by the event loop's clock; -inf for retries."""
    margin: float = 1.0
    """How many times the estimate is reserved, because less may have caused a 429."""
    places: Sequence[int] = ()
    """The places of its contents among the new ones; empty for the first ones."""

    @property
    def texts(self) -> int:
        """How many contents it has; each counts as a text."""
        return len(self.contents)


@dataclasses.dataclass(slots=True, eq=False)
class _Arrived:
    portion: Portion
    at: float
    taken: int = 0

    @property
    def remaining(self) -> int:
        return len(self.portion.contents) - self.taken


class CallQueue:
    """Contents in the order of arrival; contents of calls that failed go before new ones.

    New contents of several receivers share a call. Those of a call that failed stay apart from
    others, because a fault may be theirs. Lives on one event loop.

    Args:
        estimator: estimates the tokens of a call.
    """

    def __init__(self, estimator: TokenEstimator) -> None:
        self._estimator = estimator
        self._failed: collections.deque[Call] = collections.deque()
        self._new: collections.deque[_Arrived] = collections.deque()
        self._draft: tuple[CallLimits, Draft] | None = None
        self.sources = 0
        """How many are about to hand in contents; see `linger_s`."""

    def __bool__(self) -> bool:
        return bool(self._failed or self._new)

    def linger_s(self, draft: Draft) -> float:
        """Return how long a call waits for contents that are on their way; 0.0 for a full one."""
        if draft.is_full or not self.sources:
            return 0.0
        return max(0.0, draft.arrived_at + LINGER_S - asyncio.get_running_loop().time())

    def add(self, contents: Sequence[Content], delivery: Delivery) -> None:
        """Queue new contents."""
        if self._draft is not None and not self._draft[1].is_full:
            self._draft = None
        now = asyncio.get_running_loop().time()
        self._new.append(_Arrived(Portion(contents, delivery), now))

    def put_back(self, portions: Sequence[Portion]) -> None:
        """Queue contents before all new ones: their call was not what the service accepts."""
        self._draft = None
        wanted = [_Arrived(one, -math.inf) for one in portions if one.delivery.is_open]
        self._new.extendleft(reversed(wanted))

    def resend(self, call: Call) -> None:
        """Queue a call that failed, before new contents and after calls that failed earlier."""
        self._draft = None
        wanted = [portion for portion in call.portions if portion.delivery.is_open]
        self._failed.append(Call(wanted, call.attempts))

    def draft(self, limits: CallLimits) -> Draft | None:
        """Return the next call, as full as the limits allow; None if nothing waits."""
        if self._draft is None or self._draft[0] != limits:
            self._drop_unwanted()
            draft = self._formed(limits)
            self._draft = None if draft is None else (limits, draft)
            return draft
        draft = self._draft[1]
        tokens = self._tokens(draft.features, draft.contents, draft.margin)
        return draft if tokens == draft.tokens else dataclasses.replace(draft, tokens=tokens)

    def part(self, draft: Draft, texts: int, tokens: int) -> Draft | None:
        """Return the most of a draft that is within so many texts and tokens; None if none is."""
        low, high, found = 1, min(texts, draft.texts), None
        while low <= high:
            middle = (low + high) // 2
            part = self.first(draft, middle)
            if part.tokens <= tokens:
                low, found = middle + 1, part
            else:
                high = middle - 1
        return found

    def first(self, draft: Draft, texts: int) -> Draft:
        """Return a draft of the first contents of another."""
        contents = draft.contents[:texts]
        part = self._draft_of(contents, draft.arrived_at, is_full=True, margin=draft.margin)
        return dataclasses.replace(part, places=draft.places[:texts])

    def behind(self, limits: CallLimits, texts: int, tokens: int) -> Draft | None:
        """Return contents behind the next one that are within so many texts and tokens.

        They are taken in order, each that still fits, from the next LOOK_AHEAD; None if none is,
        or if a call that failed goes first.
        """
        if self._failed:
            return None
        chosen: list[Content] = []
        places: list[int] = []
        made_of, used, is_full = NO_FEATURES, 0, False
        for place, content in enumerate(self._first_new(LOOK_AHEAD)[1:], 1):
            if len(chosen) == texts or is_full:
                break
            if used + content.tokens > tokens:
                continue
            more, contents = sum_features((made_of, content.features)), [*chosen, content]
            reserved = self._tokens(more, contents)
            if reserved <= tokens:
                is_full = not within(contents, limits)
                if not is_full:
                    made_of, used, chosen = more, reserved, contents
                    places.append(place)
        if not chosen:
            return None
        return Draft(chosen, made_of, used, is_full, self._new[0].at, places=places)

    def take(self, draft: Draft, deadline_s: float) -> Call:
        """Take a draft out of the queue; new contents get `deadline_s` to be answered."""
        self._draft = None
        count = draft.texts
        if self._failed:
            call = self._failed[0]
            first, rest = split_at(call.portions, count)
            self._failed.popleft()
            if rest:
                self._failed.appendleft(Call(rest, dataclasses.replace(call.attempts)))
            return Call(first, call.attempts)
        taken = self._take_places(draft.places) if draft.places else self._take_new(count)
        return Call(taken, Attempts(deadline_s))

    def withdraw(self, delivery: Delivery) -> None:
        """Forget the new contents of a receiver."""
        self._draft = None
        self._new = collections.deque(one for one in self._new if one.portion.delivery != delivery)

    def drain(self) -> list[Portion]:
        """Return everything, and be empty."""
        self._draft = None
        found = [portion for call in self._failed for portion in call.portions]
        found += [one.portion.part(one.taken, len(one.portion.contents)) for one in self._new]
        self._failed.clear()
        self._new.clear()
        return found

    def _formed(self, limits: CallLimits) -> Draft | None:
        if self._failed:
            call = self._failed[0]
            count = fitting(call.contents[: limits.texts], limits)
            margin = MARGIN_AFTER_429 ** min(call.attempts.rate_limited, MAX_MARGINS)
            return self._draft_of(call.contents[:count], -math.inf, is_full=True, margin=margin)
        if not self._new:
            return None
        contents = self._first_new(limits.texts)
        count = fitting(contents, limits)
        is_full = count < len(contents) or count == limits.texts
        return self._draft_of(contents[:count], self._new[0].at, is_full=is_full)

    def _draft_of(
        self,
        contents: Sequence[Content],
        arrived_at: float,
        *,
        is_full: bool,
        margin: float = 1.0,
    ) -> Draft:
        made_of = sum_features(content.features for content in contents)
        tokens = self._tokens(made_of, contents, margin)
        return Draft(contents, made_of, tokens, is_full, arrived_at, margin)

    def _tokens(self, made_of: Features, contents: Sequence[Content], margin: float = 1.0) -> int:
        return round(margin * self._estimator.reserve(made_of)) + media_tokens(contents)

    def _first_new(self, most: int) -> list[Content]:
        found: list[Content] = []
        for one in self._new:
            found += one.portion.contents[one.taken : one.taken + most - len(found)]
            if len(found) == most:
                break
        return found

    def _take_new(self, count: int) -> list[Portion]:
        found = []
        while count:
            first = self._new[0]
            size = min(count, first.remaining)
            found.append(first.portion.part(first.taken, first.taken + size))
            first.taken += size
            count -= size
            if not first.remaining:
                self._new.popleft()
        return found

    def _take_places(self, places: Sequence[int]) -> list[Portion]:
        """Take contents from anywhere; what is between them stays, in its order."""
        found: list[Portion] = []
        rest: collections.deque[_Arrived] = collections.deque()
        start, wanted = 0, collections.deque(places)
        for one in self._new:
            at, offset, size = one.taken, one.taken - start, one.remaining
            own = []
            while wanted and wanted[0] < start + size:
                place = wanted.popleft() + offset
                own.append(one.portion.contents[place])
                if at < place:
                    rest.append(_Arrived(one.portion.part(at, place), one.at))
                at = place + 1
            if own:
                found.append(Portion(own, one.portion.delivery))
            if at < len(one.portion.contents):
                rest.append(_Arrived(one.portion.part(at, len(one.portion.contents)), one.at))
            start += size
        self._new = rest
        return found

    def _drop_unwanted(self) -> None:
        """Drop what nobody waits for any more, at the head of the queue."""
        while self._failed and not self._failed[0].is_wanted:
            self._failed.popleft()
        while self._new and not self._new[0].portion.delivery.is_open:
            self._new.popleft()


def media_tokens(contents: Sequence[Content]) -> int:
    """Return the tokens of the media of a call."""
    return sum(content.media_tokens for content in contents)

"""For any sequence of events: no window is exceeded, no call waits for ever, the quota is used."""

from __future__ import annotations

import bisect
import dataclasses
import fractions
import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_quota_scenarios import START, Job, Service, World, one_token

from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits, RpmCounts
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.quota_state import next_pacific_midnight

TIMEOUT_S = 20.0

limits = st.builds(
    QuotaLimits,
    rpm=st.none() | st.integers(1, 400),
    tpm=st.none() | st.integers(1, 20_000),
    rpd=st.none() | st.integers(1, 900),
    rpm_counts=st.sampled_from(RpmCounts),
    pace=st.sampled_from(Pace),
    share=st.sampled_from([fractions.Fraction(1), fractions.Fraction(1, 4)]),
)
asks = st.tuples(st.just("ask"), st.integers(1, 100), st.integers(1, 900))
answers = st.tuples(
    st.just("answer"),
    st.sampled_from(["ok", "ok", "ok", "ok", "failed", "charged", "429"]),
    st.floats(0, 1),
)
steps = st.tuples(st.just("step"), st.sampled_from([0.0, 0.03, 0.2, 1.0, 7.0, 30.0, 59.9, 61.0]))
backs = st.tuples(st.just("back"), st.floats(0, 3))
stores = st.tuples(st.just("store"))
events = st.lists(st.one_of(asks, asks, asks, answers, answers, steps, backs, stores), max_size=120)


@dataclasses.dataclass
class Sent:
    ticket: int
    at: float
    texts: int
    tokens: int


class Simulation:
    """Plays events against a mirror; the service counts each call at any moment it likes."""

    def __init__(self, limits: QuotaLimits) -> None:
        self.limits = limits
        self.mirror = QuotaMirror(limits, call_timeout_s=TIMEOUT_S)
        self.true_now = START
        self.behind = 0.0
        self.in_flight: list[Sent] = []
        self.counted: list[tuple[float, int, int]] = []
        self.charged: list[tuple[float, int, int]] = []

    @property
    def now(self) -> float:
        return self.true_now - self.behind

    def ask(self, texts: int, tokens: int) -> None:
        texts = min(texts, max(1, self.mirror.max_texts(self.now)))
        tokens = min(tokens, self.mirror.max_tokens(self.now) or tokens)
        if self.mirror.wait_s(self.now, texts, tokens) == 0:
            ticket = self.mirror.take(self.now, texts, tokens)
            self.in_flight.append(Sent(ticket, self.true_now, texts, tokens))

    def answer(self, outcome: str, moment: float) -> None:
        if not self.in_flight:
            return
        call = self.in_flight.pop(int(moment * 0.99 * len(self.in_flight)))
        over = min(self.true_now, call.at + TIMEOUT_S)
        requests = 1 if self.limits.rpm_counts is RpmCounts.CALLS else call.texts
        entry = (call.at + moment * (over - call.at), requests, max(1, int(call.tokens * moment)))
        if outcome == "ok":
            self.counted.append(entry)
            self.mirror.settle(call.ticket, self.now, entry[2])
        elif outcome == "charged":
            self.charged.append(entry)
            self.mirror.fail(call.ticket, self.now, charged=True)
        elif outcome == "failed":
            self.mirror.fail(call.ticket, self.now)
        else:
            self.mirror.rate_limited(call.ticket, self.now, delay_s=moment, jitter=moment)

    def step(self, seconds: float) -> None:
        self.true_now += seconds
        while self.in_flight and self.in_flight[0].at + TIMEOUT_S <= self.true_now:
            self.answer("charged", 0.0)

    def back(self, seconds: float) -> None:
        self.behind += seconds

    def store(self) -> None:
        state = self.mirror.to_bytes()
        self.mirror = QuotaMirror(self.limits, call_timeout_s=TIMEOUT_S)
        assert self.mirror.load(state)

    def max_in_a_window(self, of: int) -> int:
        entries = sorted(self.counted + self.charged)
        times = [entry[0] for entry in entries]
        sums = [0, *itertools.accumulate(entry[of] for entry in entries)]
        begins = [bisect.bisect_right(times, at - 60) for at in times]
        return max((sums[i + 1] - sums[begin] for i, begin in enumerate(begins)), default=0)

    def max_in_a_day(self) -> int:
        days: dict[float, int] = {}
        for at, requests, _ in self.counted:
            day = next_pacific_midnight(at)
            days[day] = days.get(day, 0) + requests
        return max(days.values(), default=0)


@settings(max_examples=300, deadline=None)
@given(limits, events)
def test_no_window_is_exceeded_and_no_call_waits_for_ever(
    limits: QuotaLimits, events: list[tuple[str, object]]
) -> None:
    simulation = Simulation(limits)
    for name, *arguments in events:
        getattr(simulation, name)(*arguments)
    while simulation.in_flight:
        simulation.answer("ok", 0.5)
    if limits.rpm is not None:
        assert simulation.max_in_a_window(1) <= limits.shared(limits.rpm)
    if limits.tpm is not None:
        assert simulation.max_in_a_window(2) <= limits.shared(limits.tpm)
    if limits.rpd is not None:
        assert simulation.max_in_a_day() <= limits.shared(limits.rpd)
    texts = simulation.mirror.max_texts(simulation.now) or 1
    wait = simulation.mirror.wait_s(
        simulation.now, texts, simulation.mirror.max_tokens(simulation.now) or 1
    )
    assert 0 <= wait < 26 * 3600
    assert simulation.mirror.wait_s(simulation.now + wait, 1, 1) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4000),
    st.sampled_from([None, fractions.Fraction(1, 4), fractions.Fraction(1, 7)]),
    st.sampled_from(Pace),
    st.integers(1, 16),
)
@example(rpm=2779, share=fractions.Fraction(1, 7), pace=Pace.SMOOTH, most=1)
@example(rpm=1088, share=fractions.Fraction(1, 4), pace=Pace.SMOOTH, most=1)
@example(rpm=1259, share=None, pace=Pace.SMOOTH, most=16)
def test_with_enough_texts_the_quota_is_used(
    rpm: int, share: fractions.Fraction | None, pace: Pace, most: int
) -> None:
    limits = QuotaLimits(rpm=rpm, pace=pace, share=share or fractions.Fraction(1))
    own = limits.shared(rpm)
    world = World(Service(rpm=own))
    job = Job(world, QuotaMirror(limits), one_token(6 * own), most)
    job.pump()
    world.run(START + 310)
    sent = sum(texts for _, texts, _ in world.service.counted)
    capacity = (310 - 5) / 0.25 * 100 * most
    assert job.rate_limited == 0
    assert sent >= min(4.95 * own - 2, 0.9 * capacity)


@given(st.integers(1, 50), st.lists(st.integers(1, 40), max_size=8))
def test_adopted_limits_only_go_down_and_calls_get_smaller(rpm: int, named: list[int]) -> None:
    mirror = QuotaMirror(QuotaLimits(rpm=rpm))
    for value in named:
        before = mirror.limit(START, QuotaKind.RPM)
        assert before is not None
        effect = mirror.rate_limited(0, START, kind=QuotaKind.RPM, quota_value=value)
        assert effect.adopted is (value < before)
        assert mirror.limit(START, QuotaKind.RPM) == min(before, value)
        assert 1 <= mirror.max_texts(START) <= min(before, value)

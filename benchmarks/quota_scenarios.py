"""The scenarios of the quota benchmark; each returns its rows of the table.

An emulator process enforces the limits and counts; the job is `bulkembed run`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import Job, emulator, result, script
from benchmarks.quota_windows import Windows, windows_of
from benchmarks.texts import Texts
from bulkembed.transforms.core.quota_state import PACIFIC

LATENCY = ("--latency-ms", 200, "--jitter-ms", 20, "--no-gzip")
"""Without compression, which would be most of what the emulator does in a burst."""
DAY_S = 86_400.0
RPM_ROWS = 9000
"""Three windows: a shorter run is mostly the first burst."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of the table; `passed` is None if there is no target."""

    scenario: str
    target: str
    result: str
    answers_429: str
    passed: bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What the scenarios share: texts, a folder and the size."""

    texts: Texts
    folder: Path
    small: bool

    def source(self, name: str, rows: int | None = None, first: int = 0) -> Path:
        """Write an input file."""
        return self.texts.write(name, rows, first)

    def pick(self, full: int, small: int) -> int:
        """Return a number by the size of the benchmark."""
        return small if self.small else full


def rpm(setting: Setting) -> list[Row]:
    """RPM is the limit: the first window is used at once, later ones as soon as texts leave."""
    with emulator("--rpm", 3000, *LATENCY) as server:
        source = setting.source("rpm", RPM_ROWS)
        job = Job(server.url, source, setting.folder / "rpm", "--rpm", 3000)
        code = job.wait().code
        stats, used = server.stats(), windows_of(server, 3000)
    passed = used.is_reached and stats["answers_429"] == code == 0
    passed = passed and sum(job.rows()) == RPM_ROWS
    name = "1 3,000 texts per minute"
    return [Row(name, f"{used.target}, no 429", str(used), _answers_429(stats), passed)]


def rpm_plain(setting: Setting) -> list[Row]:
    """The same with a plain script."""
    with emulator("--rpm", 3000, *LATENCY) as server:
        source = setting.source("rpm-plain", RPM_ROWS)
        found = result(script("plain_script", server.url, source, "--rpm", 3000))
        stats = server.stats()
    return [Row("1 SDK and aiolimiter", "", _plain(found, stats), _answers_429(stats), None)]


def tpm(setting: Setting) -> list[Row]:
    """TPM is the limit, counted by a tokenizer that the estimator does not know."""
    limit = 100_000
    with emulator("--tpm", limit, *LATENCY) as server:
        source = setting.source("tpm", setting.pick(0, 6000) or None)
        job = Job(server.url, source, setting.folder / "tpm", "--rpm", 0, "--tpm", limit)
        code = job.wait().code
        stats, used = server.stats(), windows_of(server, limit, "tokens")
    least, rate_limited = min(used.used[:-1]) / limit, stats["answers_429"]
    return [
        Row(
            "2 100,000 tokens per minute",
            f"{used.target}, 99 % of each full window, at most one 429",
            f"{used}; {least:.1%}",
            _answers_429(stats),
            used.is_reached and least >= 0.99 and rate_limited <= 1 and code == 0,
        )
    ]


def tpm_plain(setting: Setting) -> list[Row]:
    """The same with a plain script."""
    limit, minutes = 100_000, setting.pick(5, 2)
    with emulator("--tpm", limit, *LATENCY) as server:
        source = setting.source("tpm-plain", setting.pick(0, 6000) or None)
        found = result(script("plain_script", server.url, source, "--tpm", limit))
        stats = server.stats()
        part = server.at(60 * minutes, "tokens") / (limit * minutes)
    text = f"{part:.1%}; {_plain(found, stats)}"
    return [Row("2 SDK and aiolimiter", "", text, _answers_429(stats), None)]


def lower_limit(setting: Setting) -> list[Row]:
    """The service's limit is lower than `--rpm`."""
    limit = 2000
    with emulator("--rpm", limit, *LATENCY) as server:
        source = setting.source("lower-limit", limit * setting.pick(5, 4))
        ended = Job(server.url, source, setting.folder / "lower-limit", "--rpm", 3000).wait()
        stats, used = server.stats(), windows_of(server, limit)
        first = next((one["at_s"] for one in server.samples if one["answers_429"]), 0.0)
        late = stats["answers_429"] - max(
            (one["answers_429"] for one in server.samples if one["at_s"] <= first + 1), default=0
        )
    warned = ended.text.count("the service's limit is lower")
    passed = used.is_reached and late == 0 and warned == 1 and stats["answers_429"] <= 16
    return [
        Row(
            "3 --rpm 3000, real limit 2,000",
            f"{used.target}, one warning, 429s only for requests in flight",
            f"{used}; warnings: {warned}, later 429s: {late}",
            _answers_429(stats),
            passed and ended.code == 0,
        )
    ]


def two_processes(setting: Setting) -> list[Row]:
    """Two processes of one host share a limit."""
    rows = setting.pick(6000, 4500)
    home = setting.folder / "two-processes"
    with emulator("--rpm", 3000, *LATENCY) as server:
        jobs = [
            Job(
                server.url, setting.source(f"two-processes-{name}", rows, first), home,
                "--rpm", 3000, output=name,
            )
            for name, first in (("a", 0), ("b", rows))
        ]  # fmt: skip
        codes = [job.wait().code for job in jobs]
        stats, used = server.stats(), windows_of(server, 3000)
    done = codes == [0, 0] and stats["texts"] == 2 * rows
    return [
        Row(
            "4 two processes",
            f"{used.target} together, no 429",
            f"{used}{'' if done else f', exit codes {codes}'}",
            _answers_429(stats),
            used.is_reached and stats["answers_429"] == 0 and done,
        )
    ]


def other_user(setting: Setting) -> list[Row]:
    """Another user takes a third of the quota, which bulkembed learns from 429s at first."""
    minutes, percent = setting.pick(10, 4), setting.pick(2, 4)
    with emulator("--rpm", 3000, *LATENCY) as server:
        source = setting.source("other-user", 2000 * (minutes + 3))
        other = script("other_client", server.url, 60 * minutes + 60)
        job = Job(server.url, source, setting.folder / "other-user", "--rpm", 3000)
        while job.running and not server.stats()["texts"] > 500:
            time.sleep(0.25)
        time.sleep(60 * minutes)
        ended = job.stop()
        total = server.texts_between(0, 60 * minutes)
        theirs = result(other)
        stats = server.stats()
    ours, room = sum(job.rows()), 3000 * minutes
    part = ours / (room - (total - ours))
    calls, rate_limited = (
        stats["calls"] - theirs["calls"],
        stats["answers_429"] - theirs["rate_limited"],
    )
    other_429s = (
        f"; {theirs['rate_limited']} of the other user's {theirs['calls']} requests got a 429"
    )
    return [
        Row(
            "5 another user takes 1,000",
            f"90 % of the rest in {minutes} min, which is learned from 429s; 429s below "
            f"{percent} % of requests",
            f"{part:.1%}, {rate_limited / calls:.1%} of {calls} requests{other_429s}",
            f"{rate_limited}",
            part >= 0.9 and rate_limited < percent / 100 * calls and ended.code == 75,
        )
    ]


def rpd(setting: Setting) -> list[Row]:
    """RPD: each day commits what the quota allows, and a rerun resumes."""
    limit = setting.pick(5000, 1000)
    rows, codes = limit * 2 + limit // 5, []
    source = setting.source("rpd", rows)
    with emulator("--rpd", limit, *LATENCY) as server:
        for day in range(3):
            offset_s = _noon_s() + DAY_S * day
            server.set_clock(offset_s)
            job = Job(
                server.url, source, setting.folder / "rpd", "--rpd", limit,
                clock_offset_s=offset_s,
            )  # fmt: skip
            codes.append(job.wait().code)
        stats = server.stats()
    committed = job.rows()
    days = ", ".join(f"{rows:,}" for rows in committed)
    return [
        Row(
            f"6 {limit:,} per day",
            f"{rows:,} texts: exit 75, 75, 0; {limit:,} committed per day",
            f"exit {', '.join(map(str, codes))}; {days}",
            _answers_429(stats),
            codes == [75, 75, 0] and committed == [limit, limit, limit // 5],
        )
    ]


def free_tier(setting: Setting) -> list[Row]:
    """The free tier: 100 texts per minute, 1,000 per day."""
    limit = setting.pick(1000, 250)
    source, codes = setting.source("free-tier", limit + 100), []
    limits = ("--rpm", 100, "--tpm", 30_000, "--rpd", limit)
    noon_s, used = _noon_s(), list[Windows]()
    with emulator("--free-tier", *limits, *LATENCY) as server:
        for day in range(2):
            server.set_clock(noon_s + DAY_S * day)
            job = Job(
                server.url, source, setting.folder / "free-tier", "--tier", "free", "--rpd", limit,
                clock_offset_s=noon_s + DAY_S * day,
            )  # fmt: skip
            codes.append(job.wait().code)
            used.append(windows_of(server, 100))
        stats = server.stats()
    committed = job.rows()
    days = ", ".join(f"{rows:,}" for rows in committed)
    return [
        Row(
            "6 free tier",
            f"{used[0].target}, all committed on the first day, the rest on the next",
            f"exit {', '.join(map(str, codes))}; {days}; {used[0]}",
            _answers_429(stats),
            used[0].is_reached and codes == [75, 0] and committed == [limit, 100],
        )
    ]


def outage(setting: Setting) -> list[Row]:
    """An outage of 30 s, and 10 % of 503."""
    rows = setting.pick(9000, 6000)
    options = ("--rpm", 6000, "--pace", "smooth")
    with emulator("--share-503", 0.1, "--outage", "25-55", *LATENCY) as server:
        job = Job(server.url, setting.source("outage", rows), setting.folder / "outage", *options)
        code = job.wait().code
        stats = server.stats()
        took_s = stats["last_counted_s"] - stats["first_counted_s"]
        down = [one["calls"] for one in server.samples if 30 < one["at_s"] - server.started_s < 54]
    probes = down[-1] - down[0] if down else -1
    lost = rows - sum(job.rows())
    twice = stats["texts_paid_twice"]
    passed = code == 0 and lost == 0 and twice == 0 and 2 <= probes <= 24
    return [
        Row(
            "7 an outage of 30 s, 10 % of 503",
            "completes, nothing lost, a probe every few seconds; no limit of time, which depends "
            "on when the service answers",
            f"{lost} lost, {twice} paid twice, {probes} requests in 24 s of outage; {took_s:.0f} s",
            _answers_429(stats),
            passed,
        )
    ]


SCENARIOS: tuple[tuple[Callable[[Setting], list[Row]], float], ...] = (
    (rpm, 0),
    (rpm_plain, 10),
    (two_processes, 20),
    (lower_limit, 30),
    (tpm, 36),
    (tpm_plain, 42),
    (other_user, 48),
    (free_tier, 52),
    (outage, 140),
    (rpd, 155),
)
"""Each with its start in seconds, so that the bursts of several do not compete for two cores."""


def _noon_s() -> float:
    """Return how far it is to the next noon in California, where a day's quota begins at midnight.

    A scenario that takes minutes must not begin just before midnight.
    """
    now = dt.datetime.now(PACIFIC)
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0)
    return ((noon - now).total_seconds()) % DAY_S


def _answers_429(stats: dict[str, int]) -> str:
    return str(stats["answers_429"])


def _plain(found: dict[str, object], stats: dict[str, float]) -> str:
    if "error" in found:
        error = str(found["error"]).split(". ")[0]
        return f"failed: {error}; {stats['texts']:,} texts paid for and lost"
    return f"{stats['last_counted_s'] - stats['first_counted_s']:.1f} s"

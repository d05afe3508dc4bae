"""The seven scenarios that a quota engine has to stand; each gives its rows of the table.

An emulator process keeps the limits and counts what was reached; the job is `bulkembed run`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import Emulator, Job, emulator, result, script
from benchmarks.texts import Texts

LATENCY = ("--latency-ms", 200, "--jitter-ms", 20)
DAY_S = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `held` is None where nothing was asked for."""

    scenario: str
    asked: str
    reached: str
    refused: str
    held: bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What the scenarios share: texts, a folder of their own, and the size."""

    texts: Texts
    folder: Path
    small: bool

    def source(self, name: str, rows: int | None = None, first: int = 0) -> Path:
        """An input file."""
        return self.texts.write(name, rows, first)

    def pick(self, full: int, small: int) -> int:
        """A number by the size of the benchmark."""
        return small if self.small else full


def one(setting: Setting) -> list[Row]:
    """RPM binds: the first window is used at once, the others as soon as texts leave."""
    windows = setting.pick(3, 2)
    rows = 3000 * windows
    with emulator("--rpm", 3000, *LATENCY) as server:
        job = Job(server.url, setting.source("one", rows), setting.folder / "one", "--rpm", 3000)
        code = job.wait().code
        stats = server.stats()
    took, limit = stats["last_counted_s"] - stats["first_counted_s"], 60 * (windows - 1) + 3
    held = took <= limit and stats["answers_429"] == code == 0 and sum(job.rows()) == rows
    asked = f"{rows:,} texts in {limit} s or less (ideal {limit - 3} s), no 429"
    return [Row("1 3,000 texts a minute", asked, f"{took:.1f} s", _refused(stats), held)]


def one_plain(setting: Setting) -> list[Row]:
    """The same by a plain script."""
    windows = setting.pick(3, 2)
    with emulator("--rpm", 3000, *LATENCY) as server:
        source = setting.source("one-plain", 3000 * windows)
        found = result(script("plain_script", server.url, source, "--rpm", 3000))
        stats = server.stats()
    return [Row("1 SDK and aiolimiter", "", _plain(found, stats), _refused(stats), None)]


def two(setting: Setting) -> list[Row]:
    """TPM binds, counted by a tokenizer that the estimator does not know."""
    tpm, minutes = 100_000, setting.pick(5, 2)
    with emulator("--tpm", tpm, *LATENCY) as server:
        source = setting.source("two", setting.pick(0, 6000) or None)
        job = Job(server.url, source, setting.folder / "two", "--rpm", 0, "--tpm", tpm)
        job.wait()
        stats = server.stats()
        part = server.at(60 * minutes, "tokens") / (tpm * minutes)
    took = stats["last_counted_s"] - stats["first_counted_s"]
    refused = stats["answers_429"]
    return [
        Row(
            "2 100,000 tokens a minute",
            f"97 % of {minutes} windows, at most one 429",
            f"{part:.1%}; {stats['tokens']:,} tokens in {took:.0f} s",
            _refused(stats),
            part >= 0.97 and refused <= 1,
        )
    ]


def two_plain(setting: Setting) -> list[Row]:
    """The same by a plain script."""
    tpm, minutes = 100_000, setting.pick(5, 2)
    with emulator("--tpm", tpm, *LATENCY) as server:
        source = setting.source("two-plain", setting.pick(0, 6000) or None)
        found = result(script("plain_script", server.url, source, "--tpm", tpm))
        stats = server.stats()
        part = server.at(60 * minutes, "tokens") / (tpm * minutes)
    reached = f"{part:.1%}; {_plain(found, stats)}"
    return [Row("2 SDK and aiolimiter", "", reached, _refused(stats), None)]


def three(setting: Setting) -> list[Row]:
    """The service's limit is lower than the job was told."""
    minutes = setting.pick(4, 2)
    with emulator("--rpm", 2000, *LATENCY) as server:
        source = setting.source("three", 2000 * (minutes + 2))
        job = Job(server.url, source, setting.folder / "three", "--rpm", 3000)
        _until(server, 60 * (minutes + 1) + 1, job)
        ended = job.stop()
        stats = server.stats()
        first = next((one["at_s"] for one in server.looks if one["answers_429"]), 0.0)
        late = stats["answers_429"] - max(
            (one["answers_429"] for one in server.looks if one["at_s"] <= first + 1), default=0
        )
        part = server.texts_between(60, 60 * (minutes + 1)) / (2000 * minutes)
    warned = ended.words.count("the service's limit is lower")
    return [
        Row(
            "3 told 3,000, limit is 2,000",
            "95 % of the limit, one warning, no 429 but those in the air",
            f"{part:.1%}, warnings: {warned}, later 429s: {late}",
            _refused(stats),
            part >= 0.95 and late == 0 and warned == 1 and stats["answers_429"] <= 16,
        )
    ]


def four(setting: Setting) -> list[Row]:
    """Two processes of one host share a limit."""
    minutes = setting.pick(3, 2)
    rows = 1500 * (minutes + 1)
    home = setting.folder / "four"
    with emulator("--rpm", 3000, *LATENCY) as server:
        jobs = [
            Job(
                server.url, setting.source(f"four-{name}", rows, first), home,
                "--rpm", 3000, output=name,
            )
            for name, first in (("a", 0), ("b", rows))
        ]  # fmt: skip
        codes = [job.wait().code for job in jobs]
        stats = server.stats()
        part = server.texts_between(0, 60 * minutes) / (3000 * minutes)
    done = codes == [0, 0] and stats["texts"] == 2 * rows
    return [
        Row(
            "4 two processes",
            f"97 % of {minutes} windows together, no 429",
            f"{part:.1%}{'' if done else f', exit codes {codes}'}",
            _refused(stats),
            part >= 0.97 and stats["answers_429"] == 0 and done,
        )
    ]


def five(setting: Setting) -> list[Row]:
    """A stranger takes a third of the quota; what is learnt in the first minutes costs refusals."""
    minutes, most = setting.pick(10, 4), setting.pick(2, 4)
    with emulator("--rpm", 3000, *LATENCY) as server:
        source = setting.source("five", 2000 * (minutes + 3))
        other = script("stranger", server.url, 60 * minutes + 60)
        job = Job(server.url, source, setting.folder / "five", "--rpm", 3000)
        while job.running and not server.stats()["texts"] > 500:
            time.sleep(0.25)
        time.sleep(60 * minutes)
        ended = job.stop()
        total = server.texts_between(0, 60 * minutes)
        strange = result(other)
        stats = server.stats()
    ours, room = sum(job.rows()), 3000 * minutes
    part = ours / (room - (total - ours))
    calls, refused = stats["calls"] - strange["calls"], stats["answers_429"] - strange["refused"]
    lost = f"; {strange['refused']} of the stranger's {strange['calls']} calls refused"
    return [
        Row(
            "5 a stranger takes 1,000",
            f"90 % of what is left in {minutes} min, 429s under {most} % of calls",
            f"{part:.1%}, {refused / calls:.1%} of {calls} calls{lost}",
            f"{refused}",
            part >= 0.9 and refused < most / 100 * calls and ended.code == 75,
        )
    ]


def six(setting: Setting) -> list[Row]:
    """RPD: each day commits what the day allows, and the run is safe to be run again."""
    rpd = setting.pick(5000, 1000)
    rows, codes = rpd * 2 + rpd // 5, []
    source = setting.source("six", rows)
    with emulator("--rpd", rpd, *LATENCY) as server:
        for day in range(3):
            server.set_clock(DAY_S * day)
            job = Job(
                server.url, source, setting.folder / "six", "--rpd", rpd,
                clock_offset_s=DAY_S * day,
            )  # fmt: skip
            codes.append(job.wait().code)
        stats = server.stats()
    committed = job.rows()
    days = ", ".join(f"{rows:,}" for rows in committed)
    return [
        Row(
            f"6 {rpd:,} a day",
            f"{rows:,} texts: exit 75, 75, 0; {rpd:,} committed a day",
            f"exit {', '.join(map(str, codes))}; {days}",
            _refused(stats),
            codes == [75, 75, 0] and committed == [rpd, rpd, rpd // 5],
        )
    ]


def six_free(setting: Setting) -> list[Row]:
    """The free tier: 100 texts a minute, 1,000 a day."""
    rpd = setting.pick(1000, 250)
    source, codes = setting.source("six-free", rpd + 100), []
    limits = ("--rpm", 100, "--tpm", 30_000, "--rpd", rpd)
    with emulator("--free-tier", *limits, *LATENCY) as server:
        for day in range(2):
            server.set_clock(DAY_S * day)
            job = Job(
                server.url, source, setting.folder / "six-free", "--tier", "free", "--rpd", rpd,
                clock_offset_s=DAY_S * day,
            )  # fmt: skip
            codes.append(job.wait().code)
        stats = server.stats()
    committed = job.rows()
    days = ", ".join(f"{rows:,}" for rows in committed)
    return [
        Row(
            "6 free tier",
            f"{rpd:,} committed on the first day, the rest on the next",
            f"exit {', '.join(map(str, codes))}; {days}; {stats['texts']:,} answered",
            _refused(stats),
            codes == [75, 0] and committed == [rpd, 100],
        )
    ]


def seven(setting: Setting) -> list[Row]:
    """An outage of 30 s, and 10 % of 503."""
    rows = setting.pick(9000, 6000)
    options = ("--rpm", 6000, "--pace", "smooth")
    with emulator("--share-503", 0.1, "--outage", "25-55", *LATENCY) as server:
        job = Job(server.url, setting.source("seven", rows), setting.folder / "seven", *options)
        code = job.wait().code
        stats = server.stats()
        down = [one["calls"] for one in server.looks if 30 < one["at_s"] - server.started_s < 54]
    probes = down[-1] - down[0] if down else -1
    lost = rows - sum(job.rows())
    twice = stats["texts_paid_twice"]
    held = code == 0 and lost == 0 and twice == 0 and 2 <= probes <= 24
    return [
        Row(
            "7 an outage of 30 s, 10 % of 503",
            "completes, nothing lost, a probe every few seconds",
            f"{lost} lost, {twice} paid twice, {probes} calls in 24 s of outage",
            _refused(stats),
            held,
        )
    ]


SCENARIOS: tuple[tuple[Callable[[Setting], list[Row]], float], ...] = (
    (one, 0),
    (one_plain, 10),
    (four, 20),
    (three, 30),
    (two, 36),
    (two_plain, 42),
    (five, 48),
    (six_free, 52),
    (seven, 140),
    (six, 155),
)
"""With when each starts, in seconds: so that the bursts of a window do not meet on two cores."""


def _until(server: Emulator, elapsed_s: float, job: Job) -> None:
    """Waits until so many seconds after the first text that was counted, or the job's end."""
    while job.running:
        first = server.stats()["first_counted_s"]
        if first is not None and time.time() >= first + elapsed_s:
            return
        time.sleep(0.25)


def _refused(stats: dict[str, int]) -> str:
    return str(stats["answers_429"])


def _plain(found: dict[str, object], stats: dict[str, float]) -> str:
    if "error" in found:
        error = str(found["error"]).split(". ")[0]
        return f"died: {error}; {stats['texts']:,} texts paid for and lost"
    return f"{stats['last_counted_s'] - stats['first_counted_s']:.1f} s"

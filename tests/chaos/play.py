"""Plays a history against the real command and holds each step against the model."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq

from bulkembed.emulator.faults import Faults
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, Fault
from chaos.damage import apply, files_of
from chaos.history import (
    CLEAN,
    KILLS,
    UNIT_ROWS,
    Change,
    Compact,
    Cure,
    Damage,
    Edit,
    End,
    Harm,
    History,
    Launch,
    Rejected,
    Rows,
    Settings,
    Step,
    edited,
)
from chaos.inputs import write_input
from chaos.model import Model, Snapshot, Wrong, same
from chaos.places import Disk, Place
from chaos.processes import Command, Starter, end_all, wait_until_gone
from chaos.service import EmulatorService, Ledger

RUN_S = 120.0
"""How long a small run on a busy machine may take; beyond it hangs."""
GONE_S = 40.0
"""How long workers may live after their launcher."""
QUIET_S = 5.0
IN_THE_AIR_S = 0.05
"""How long a request to a store may take that was under way when its sender was stopped."""
LAST = Launch(unit_rows=50, in_flight=4)
EARLY = {-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP}


class Player:
    """One history being played."""

    def __init__(self, history: History, starter: Starter, folder: Path, place: Place) -> None:
        self.history = history
        self.folder = folder
        self.input = folder / "in"
        self.place = place
        self.starter = starter
        world = history.world
        self.model = Model(
            EmulatorService(), world.settings, dict(world.files), shares=world.place == "disk"
        )
        self.server: EmulatorServer
        self.ledger = Ledger()
        self.commands: list[Command] = []
        self.damaged = False
        """Whether a run may have to be told to repair."""
        self.paid_before = 0
        """What the service was paid for before the run that is at work."""
        self.overtaken_paid = 0
        """What a run was paid for after it had lost the output."""
        self.wiping = False
        """Whether a `--overwrite` was begun that may not have deleted anything yet."""
        self.fresh = False
        """Whether a `--overwrite` was begun and has not completed."""
        self.half_merged = False
        """Whether merged parts may be there beside those that they replace, or their copies."""

    def play(self) -> None:
        """All steps, and a run to the end.

        Raises:
            Wrong: the job did what it must not; the message begins with the step.
        """
        world = self.history.world
        for name, rows in world.files.items():
            write_input(self.input / name, rows)
        for name in ("tmp", "cache"):
            (self.folder / name).mkdir()
        faults = tuple((Fault(kind), share) for kind, share in world.faults)
        settings = EmulatorSettings(
            poison="poisonous", latency_ms=world.latency_ms, jitter_ms=world.latency_ms / 4,
            faults=faults, seed=self.history.seed % 2**31,
        )  # fmt: skip
        self.server = EmulatorServer(settings)
        self.server.state.stats = self.ledger
        with self.server:
            try:
                for number, step in enumerate(self.history.steps, 1):
                    self._step(f"step {number} ({step})", step)
                self._last()
            finally:
                for command in self.commands:
                    end_all(command)

    def _step(self, where: str, step: Step) -> None:
        began = time.monotonic()
        try:
            match step:
                case Launch():
                    self.launch(step)
                case Rejected():
                    self.rejected(step)
                case Change():
                    self.change(step)
                case Damage():
                    self.damage(step)
                case Compact():
                    self.compact(step)
                case Cure():
                    self.cure()
        except Wrong as wrong:
            raise Wrong(f"{where}: {wrong}\n{self._last_words()}") from wrong
        codes = [command.code for command in self.commands]
        print(f"{time.monotonic() - began:5.1f} s  {where}; codes so far {codes}", flush=True)

    def _last_words(self) -> str:
        said = self.commands[-1].said[-2500:] if self.commands else ""
        return f"the last command said:\n{said}"

    def _last(self) -> None:
        """A run to the end, and one more that has nothing to do."""
        self._step("the last run", LAST)
        before = self.place.snapshot()
        self._step("the run after it", dataclasses.replace(LAST))
        changed = same(before, self.place.snapshot())
        if changed:
            raise Wrong(f"a run with nothing to do changed {changed}")
        self._no_temporary_files()

    def _no_temporary_files(self) -> None:
        """Those of dead runs are removed by the next one that embeds something."""
        tmp = self.folder / "tmp"
        if not any(tmp.iterdir()):
            return
        self._step("more rows", Change(Edit.ADD, 0, self.history.seed))
        self._step("a run over them", LAST)
        left = sorted(path.name for path in tmp.iterdir() if not _is_of_a_library(path))
        if left:
            raise Wrong(f"temporary files are left: {left}\n{self._last_words()}")

    # Commands.

    def start(self, step: Launch, settings: Settings, *more: str) -> Command:
        """A run."""
        flags = [
            "--unit-rows", str(step.unit_rows), "--concurrency", str(step.in_flight),
            "--rpm", "0", "--tpm", "0", "--rpd", "0", "--max-dead-letters", "1000", "--no-report",
            *settings.flags,
        ]  # fmt: skip
        flags += ["--workers", str(step.workers)] if step.workers > 1 else []
        flags += ["--prune", "--max-delete", "100%"] if step.prune else ["--missing-files", "keep"]
        flags += ["--retry-failed"] if step.retry and "--overwrite" not in more else []
        event = step.moment.event if step.moment else None
        return self.command("run", [*flags, *more], real=step.real, event=event)

    def command(
        self,
        name: str,
        flags: Sequence[str],
        *,
        real: bool = False,
        event: tuple[str, str, int] | None = None,
    ) -> Command:
        """A command over the output of the history."""
        if name == "run":
            args = ["run", "--input", str(self.input), "--output", self.place.uri, "--base-url",
                    self.server.url, *flags]  # fmt: skip
        else:
            args = [name, self.place.uri, *flags]
        environ = {
            **self.place.environ,
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "BULKEMBED_RUN_REPORT": "0",
        }
        log = self.folder / f"{len(self.commands):02}-{name}"
        command = self.starter.start(args, log, environ, real=real, event=event)
        self.commands.append(command)
        return command

    def wait(self, command: Command, allowed: set[int]) -> int:
        """The exit code of a command, which must be an allowed one, without a traceback.

        A signal may come when all is done and the interpreter ends; see `work_ended`.
        """
        code = command.wait(RUN_S)
        if code is None:
            raise Wrong(f"it did not end within {RUN_S:.0f} s")
        if "Traceback" in command.said or "please report" in command.said:
            raise Wrong("there is a traceback, or it asks to be reported")
        if code in EARLY:
            code = work_ended(code, command.summary)
        if code not in allowed:
            raise Wrong(f"it ended with {code}; allowed are {sorted(allowed)}")
        return code

    def _wait_for_calls(self) -> None:
        """Waits until no call is under way.

        On a busy machine, the service may not have read yet what a process sent before it was
        killed. It reads requests in their order, so it has once it answers another one; twice,
        as a call is under way a moment after it was read.
        """
        for _ in range(2):
            httpx2.get(f"{self.server.url}/stats", timeout=RUN_S)
        until = time.monotonic() + QUIET_S
        while self.ledger.in_flight and time.monotonic() < until:
            time.sleep(0.005)

    def quiet(self) -> tuple[dict[int, int], int]:
        """What was paid for since the last time, once no call is under way."""
        self._wait_for_calls()
        paid, largest = self.ledger.take()
        return dict(paid), largest

    def reach(self, command: Command, step: Launch) -> None:
        """Waits for the moment of a step, or for the end of its run."""
        assert step.moment is not None
        due = set().union(*map(self.model.keys_of, self.model.files.values())) - self.model.held
        paid = self.paid_before + math.ceil(step.moment.share * len(due))
        until = time.monotonic() + RUN_S
        while self.ledger.texts < paid and command.poll() is None and time.monotonic() < until:
            time.sleep(0.004)
        time.sleep(step.moment.delay_s)

    # Steps.

    def launch(self, step: Launch) -> None:
        """A run, and what becomes of it."""
        settings, more = self._begin(step)
        before = self.place.snapshot()
        self.paid_before = self.ledger.texts
        ended = self._run(step, settings, more)
        present = self.place.snapshot()
        self._account(step, ended)
        if step.end is End.EDITED:
            # Rows of both contents may be there; of a file that grew, half lines may be dead.
            if ended == 0:
                self.model.check(present)
                self.model.held &= self.model.embedded_keys(present)
                self.damaged = self.wiping = self.fresh = self.half_merged = False
            return
        if ended == 0:
            self._completed(step, before, present)
            return
        if not has_summary(self.commands[-1].summary) and any(map(_is_merged, before)):
            self.half_merged = True  # It may have been about to replace them by copies.
        if self.wiping:
            return
        if self.damaged and ended in (1, 2):
            self._repair(step)
            return
        if self.damaged:
            return  # What is damaged may still be so.
        if ended in (75, 130) and not self.half_merged:
            self.model.check_stopped(present)
        self.model.check(present)
        if "_SUCCESS" in present and _differ(before, present):
            self.model.check_success(present)

    def _begin(self, step: Launch) -> tuple[Settings, list[str]]:
        """The settings of a run, and whether it begins, or goes on with, a `--overwrite` one."""
        settings = self.model.settings
        if step.fresh and not self.fresh:
            if step.other and not self.wiping and settings == self.history.world.settings:
                settings = self.history.world.other_settings
            self.model.restart(settings)
            self.wiping = True
            self.damaged = False
        return settings, ["--overwrite"] if step.fresh or self.wiping else []

    def _run(self, step: Launch, settings: Settings, more: list[str]) -> int:
        """Starts a run, does to it what the step says, and gives the exit code."""
        command = self.start(step, settings, *more)
        repair = {1, 2} if self.damaged else set()
        if step.end is None or step.moment is None:
            return self.wait(command, {0} | repair)
        if step.moment.request is not None:
            self.place.at_request(step.moment.request, lambda: command.signal(signal.SIGKILL))
        if step.moment.event is not None or step.moment.request is not None:
            return self.wait(command, {0, -signal.SIGKILL} | repair)
        self.reach(command, step)
        match step.end:
            case End.KILL_GROUP:
                command.signal_all(signal.SIGKILL)
            case End.KILL_LAUNCHER:
                command.signal(signal.SIGKILL)
                command.wait(RUN_S)
                if left := wait_until_gone(command, GONE_S):
                    raise Wrong(f"processes {left} live {GONE_S:.0f} s after their launcher")
            case End.KILL_WORKER:
                return self._kill_worker(command, repair)
            case End.SIGINT | End.SIGTERM | End.SIGHUP:
                command.signal(signal.Signals[step.end.name])
                early = EARLY if self.ledger.texts == self.paid_before else set()
                return self.wait(command, {0, 75, 130} | early | repair)
            case End.TWICE:
                command.signal(signal.SIGTERM)
                time.sleep(0.02)
                command.signal(signal.SIGTERM)
                return self.wait(command, {0, 75, 143, -signal.SIGTERM} | repair)
            case End.PAUSE:
                command.signal_all(signal.SIGSTOP)
                time.sleep(0.5)
                command.signal_all(signal.SIGCONT)
                return self.wait(command, {0} | repair)
            case End.EDITED:
                return self._edited(step, command, repair)
            case End.PAUSE_SECOND:
                return self._second(step, command, settings, repair)
            case End.OVERTAKEN:
                return self._overtaken(step, command, settings, repair)
        code = self.wait(command, {0, -signal.SIGKILL} | repair)
        if left := wait_until_gone(command, GONE_S):
            raise Wrong(f"processes {left} are left")
        return code

    def _kill_worker(self, command: Command, repair: set[int]) -> int:
        workers = command.workers()
        for pid in workers[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self.wait(command, {0, 75} | repair)
        if left := wait_until_gone(command, GONE_S):
            raise Wrong(f"processes {left} live {GONE_S:.0f} s after their launcher")
        return code

    def _edited(self, step: Launch, command: Command, repair: set[int]) -> int:
        """A file is rewritten while it may be half read; a later run sees to it at the latest."""
        names = sorted(name for name in self.model.files if name.endswith(".jsonl"))
        command.signal_all(signal.SIGSTOP)
        if names:
            change = Change(Edit.REWRITE, step.salt, step.salt)
            name = names[step.salt % len(names)]
            repeats = self.history.world.place == "disk"
            rows = edited(self.model.files[name], change, repeats=repeats)
            if not isinstance(self.place, Disk):
                # On a store what this run has paid for of the file is paid again.
                self.model.licence += len(self.model.files[name])
            self._put(name, rows, self.place.snapshot())
        command.signal_all(signal.SIGCONT)
        return self.wait(command, {0, 75} | repair if names else {0} | repair)

    def _second(self, step: Launch, first: Command, settings: Settings, repair: set[int]) -> int:
        """A second run while the first one is stopped: it must not write, and say so."""
        if self._stopped_at_work(first):
            second = self.start(Launch(step.unit_rows, step.in_flight), settings)
            self.wait(second, {5})
        first.signal_all(signal.SIGCONT)
        return self.wait(first, {0} | repair)

    def _overtaken(self, step: Launch, first: Command, settings: Settings, repair: set[int]) -> int:
        """The first run is stopped and loses the output; another completes; the first wakes up.

        With workers their launcher is killed, as by somebody who believes it dead.
        """
        if not self._stopped_at_work(first):
            first.signal_all(signal.SIGCONT)
            return self.wait(first, {0} | repair)
        number = json.loads(self.place.snapshot()["_run/run.json"])["run_number"]
        if step.workers > 1:
            first.signal(signal.SIGKILL)
            first.wait(RUN_S)
        else:
            for name in filter(_is_lock, self.place.snapshot()):
                self.place.delete(name)
        # Of other units, so that what the first one still commits would double rows.
        other = UNIT_ROWS[(UNIT_ROWS.index(step.unit_rows) + 1) % len(UNIT_ROWS)]
        meanwhile = Launch(other, step.in_flight)
        code = self.wait(self.start(meanwhile, settings), {0} | repair)
        paid = self.ledger.texts
        before = self.place.snapshot()
        first.signal_all(signal.SIGCONT)
        if step.workers == 1:
            self.wait(first, {0, 1, 5, 75})
        if left := wait_until_gone(first, GONE_S):
            raise Wrong(f"processes {left} live {GONE_S:.0f} s after they were overtaken")
        self._wait_for_calls()
        # What it sent before it could know is lost, as by a kill.
        self.overtaken_paid = self.ledger.texts - paid
        late = _late_commits(before, self.place.snapshot(), number)
        if code == 0 and late:
            self._heal(meanwhile, settings, late)
        return code

    def _stopped_at_work(self, command: Command) -> bool:
        """Stop a run; say whether it holds the output: it has taken it, and has not let it go.

        It lets it go as the last thing of its work, a while before its process ends.
        """
        command.stop_all()
        time.sleep(IN_THE_AIR_S)
        begun = command.poll() is None and self.ledger.texts > self.paid_before
        return begun and any(_is_lock(name) for name in self.place.snapshot())

    def _heal(self, step: Launch, settings: Settings, late: set[str]) -> None:
        """Late commits are the only thing that `verify` finds; the same command removes them."""
        found = self.verify_finds()
        named = {finding["where"] for finding in found if finding["check"] == "foreign"}
        if named != late or len(found) != len(late):
            raise Wrong(f"verify finds {found[:5]}, and these were committed late: {sorted(late)}")
        paid = self.ledger.texts
        self.wait(self.start(step, settings), {0})
        if self.ledger.texts != paid:
            raise Wrong(f"{self.ledger.texts - paid} texts were paid for to remove late commits")

    def _account(self, step: Launch, ended: int) -> None:
        """Counts what was paid, and what the end of the run may have cost."""
        paid, largest = self.quiet()
        if paid:
            self.fresh, self.wiping = self.fresh or self.wiping, False
        lost = step.end in (*KILLS, End.OVERTAKEN) or ended < 0
        if lost and step.end is not None:
            self.model.licence += step.in_flight * largest
            if not isinstance(self.place, Disk):
                # A store cannot append: the answers of the units under way are lost.
                self.model.licence += 2 * step.in_flight * step.unit_rows
        if step.end in CLEAN and not isinstance(self.place, Disk):
            self.model.licence += step.in_flight * step.unit_rows
        self.model.licence += self.overtaken_paid
        self.overtaken_paid = 0
        self.model.pay(paid)
        self.model.check_paid()

    def _completed(self, step: Launch, before: Snapshot, present: Snapshot) -> None:
        if step.retry and ("_SUCCESS" not in present or not _differ(before, present)):
            # It was not to do the other rows; with nothing to retry it leaves `_SUCCESS` alone.
            if not self.half_merged:
                self.model.check_stopped(present)
            return
        pruned = step.prune and step.end is not End.OVERTAKEN
        self.model.check_complete(present, pruned=pruned, overtaken=step.end is End.OVERTAKEN)
        self.model.completed(present, pruned=pruned)
        if step.retry and self.model.cured:
            self.model.retried()
        if step is LAST or step.end is End.OVERTAKEN or self.damaged:
            self.verify()
        self.damaged = self.wiping = self.fresh = self.half_merged = False

    def verify(self) -> None:
        """`bulkembed verify` must find nothing."""
        found = self.verify_finds()
        if found:
            raise Wrong(f"verify finds {found[:5]}")

    def verify_finds(self) -> list[dict[str, Any]]:
        """What `bulkembed verify` finds."""
        flags = ["--json"]
        if self.model.has_old_rows():
            flags.append("--repeated-ids")
        else:
            flags += ["--against", str(self.input)]
        command = self.command("verify", flags)
        code = self.wait(command, {0, 1})
        found: list[dict[str, Any]] = json.loads(command.summary)["findings"]
        if bool(found) != bool(code):
            raise Wrong(f"verify ends with {code} and finds {found[:5]}")
        return found

    def _repair(self, step: Launch) -> None:
        """What is damaged is named; `verify --repair` sets it right, and a run goes on."""
        said = self.commands[-1].said
        if "--repair" not in said:
            raise Wrong("the damage is not named with what to do")
        self.wait(self.command("verify", ["--repair"]), {0, 1})
        self.damaged = False
        self.launch(Launch(step.unit_rows, step.in_flight))

    def rejected(self, step: Rejected) -> None:
        """A run with other settings is rejected, and changes nothing."""
        before = self.place.snapshot()
        if self.wiping or self.damaged or not self.model.embedded_keys(before):
            return
        if self.model.settings.has(step.flags):
            return  # An overwrite has given the dataset the very settings of this step.
        command = self.start(LAST, self.model.settings, *step.flags)
        self.wait(command, {2})
        self._untouched(before)

    def _untouched(self, before: Snapshot) -> None:
        changed = same(before, self.place.snapshot())
        if changed:
            raise Wrong(f"a rejected run changed {changed}")
        paid, _ = self.quiet()
        if paid:
            raise Wrong(f"a rejected run paid for {len(paid)} texts")

    def compact(self, step: Compact) -> None:
        """The parts of a complete dataset are merged; the rows stay the same."""
        before = self.place.snapshot()
        event = step.moment.event if step.moment else None
        flags = ["--target-file-size", step.size]
        command = self.command("compact", flags, event=event)
        if step.moment is not None and step.moment.request is not None:
            self.place.at_request(step.moment.request, lambda: command.signal(signal.SIGKILL))
        allowed = {0, -signal.SIGKILL} if step.moment else {0}
        complete = "_SUCCESS" in before
        # A compaction of what an earlier one has left also ends with 0.
        allowed |= {1, 2} if self.damaged else set() if complete else {2}
        code = self.wait(command, allowed)
        present = self.place.snapshot()
        paid, _ = self.quiet()
        if paid:
            raise Wrong(f"a compaction paid for {len(paid)} texts")
        if not self.damaged and not self.wiping:
            self.model.check(present)
        if code in (1, 2):
            return
        if code:
            self.half_merged = True
            return
        self.half_merged = False
        if "_SUCCESS" not in present:
            raise Wrong("_SUCCESS is not there")
        if complete and not self.damaged and rows_of(before) != rows_of(present):
            raise Wrong("it has changed the rows")

    def change(self, step: Change) -> None:
        """The input changes while no run is at work."""
        names = sorted(self.model.files)
        name = names[step.pick % len(names)]
        rows = self.model.files[name]
        present = self.place.snapshot()
        path = self.input / name
        repeats = self.history.world.place == "disk"
        match step.edit:
            case Edit.TOUCH:
                path.touch()
            case Edit.REMOVE | Edit.RENAME if len(names) == 1 and step.edit is Edit.REMOVE:
                return
            case Edit.REMOVE:
                path.unlink()
                self.model.change(name, None, present)
            case Edit.RENAME:
                new = path.with_name(f"r{step.salt % 1000}-{path.name}")
                path.rename(new)
                self.model.change(name, None, present)
                self.model.change(str(new.relative_to(self.input)), rows, present)
            case Edit.ADD:
                kind = "parquet" if step.salt % 2 else "jsonl"
                self._put(f"n{step.salt % 1000}.{kind}", edited((), step, repeats=repeats), present)
            case _:
                self._put(name, edited(rows, step, repeats=repeats), present)

    def _put(self, name: str, rows: Rows, present: Snapshot) -> None:
        write_input(self.input / name, rows)
        self.model.change(name, rows, present)

    def damage(self, step: Damage) -> None:
        """Something in the output is damaged while no run is at work."""
        present = self.place.snapshot()
        if self.wiping or self.half_merged or not self.model.embedded_keys(present):
            return
        damage = apply(step, present)
        if damage is None or not files_of(damage.about, present) <= self.model.files.keys():
            return  # What is lost of a file that is gone stays lost.
        if step.harm is Harm.LOCK_GARBAGE and not isinstance(self.place, Disk):
            return
        for name, data in damage.changed.items():
            if data is None:
                self.place.delete(name)
            else:
                self.place.write(name, data)
        if damage.rejected:
            self._must_be_rejected(present)
            return
        lost = self.model.embedded_keys({n: present[n] for n in damage.lost_parts})
        self.model.held -= lost
        if damage.lost_answers:
            self.model.held &= self.model.embedded_keys(present)
        if damage.found_by_verify:
            self._must_be_found()
        self.damaged = True

    def _must_be_rejected(self, before: dict[str, bytes]) -> None:
        """Without what is pinned nothing may be changed; then it is put back."""
        damaged = self.place.snapshot()
        self.wait(self.start(LAST, self.model.settings), {1, 2})
        self._untouched(damaged)
        for name in damaged.keys() - before.keys():
            self.place.delete(name)
        for name, data in before.items():
            if damaged.get(name) != data:
                self.place.write(name, data)

    def _must_be_found(self) -> None:
        command = self.command("verify", ["--json", "--repeated-ids"])
        self.wait(command, {1})
        findings: list[dict[str, Any]] = json.loads(command.summary)["findings"]
        if all(found["check"] == "unfinished" for found in findings):
            raise Wrong("verify does not find it")
        self.wait(self.command("verify", ["--repair"]), {0, 1})

    def cure(self) -> None:
        """The service takes what it rejected."""
        settings = dataclasses.replace(self.server.settings, poison=None)
        self.server.state.faults = Faults(settings, self.server.clock.now())
        self.model.cured_late = self.model.cured_late or not self.model.cured
        self.model.cured = True


def _is_of_a_library(path: Path) -> bool:
    """Whether a run was killed in the moment in which only a library knew of this file.

    Python's `tempfile` writes a file to try the folder. Beam makes an empty folder for each
    pipeline, which the run then replaces by one in its own.
    """
    if path.is_dir():
        return path.name.startswith("beam-pipeline-temp") and not any(path.iterdir())
    return path.read_bytes() in (b"", b"blat") and len(path.name) == 8


def _differ(before: Snapshot, after: Snapshot) -> list[str]:
    """Parts and records in which two outputs differ."""
    changed = same(before, after)
    return [n for n in changed if n.startswith(("vectors/", "dead_letters/", "_run/units/"))]


def has_summary(said: str) -> bool:
    """Whether a run has come to its end, complete or stopped: what it printed has its summary."""
    return "\noutput " in said


def work_ended(code: int, summary: str) -> int:
    """The exit code of a run that a signal ended when its work was done already: by its summary.

    Without a summary it was not done.
    """
    if not has_summary(summary):
        return code
    left = re.findall(r"([\d,]+) remaining", summary)
    return 0 if left and set(left) == {"0"} else 75


def rows_of(present: Snapshot) -> list[tuple[str, str, int]]:
    """The file and the number of each row with a vector or a dead letter, sorted."""
    found = []
    for name in present:
        folder, _, base = name.partition("/")
        if folder in ("vectors", "dead_letters") and not base.startswith("."):
            columns = ["source_file", "source_row"]
            table = pq.read_table(io.BytesIO(present[name]), columns=columns)
            rows = zip(
                table["source_file"].to_pylist(), table["source_row"].to_pylist(), strict=True
            )
            found += [(folder, file, row) for file, row in rows]
    return sorted(found)


def _is_merged(name: str) -> bool:
    """Whether a file of the output has rows of several units."""
    return name.startswith(("vectors/group-", "dead_letters/group-"))


def _is_lock(name: str) -> bool:
    """Whether a file of the output says that a run holds it."""
    return name == "_run/lock.json" or name.startswith("_run/claims/")


def _late_commits(before: Snapshot, after: Snapshot, number: int) -> set[str]:
    """The records and parts that the run of a number added."""
    return {
        name
        for name in after.keys() - before.keys()
        if name.startswith(("vectors/part-", "dead_letters/part-", "_run/units/"))
        and re.search(rf"-n{number}(-v\w+\.json|\.parquet)$", name)
    }


def play(history: History, starter: Starter, folder: Path, place: Place) -> None:
    """Plays one history in an empty folder, which is deleted where nothing is wrong."""
    folder.mkdir(parents=True)
    Player(history, starter, folder, place).play()
    shutil.rmtree(folder)

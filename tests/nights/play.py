"""Five nights, played on one place: what each night pays, writes and refuses."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence

from nights.catalogue import Night, shuffled
from nights.jobs import Loaded, NightlyJob, replayed
from nights.model import Change, Changed, changes, new_contents

FromNothing = Callable[[Night], Loaded]
"""The rows of a dataset that is made from the files of a night in one run."""


def play_files(job: NightlyJob, nights: Sequence[Night], from_nothing: FromNothing) -> None:
    """Play the nights as files that come and go."""
    first, second, third, fourth, fifth = nights
    job.place.export(first)
    done(job, "out")
    assert job.paid() == new_contents({}, first.rows)
    assert job.loaded("out", first.columns) == from_nothing(first)

    job.place.export(second)
    refused(job, "out", 2, ("--prune", "--missing-files keep"))
    assert job.loaded("out", first.columns) == from_nothing(first)
    state = job.state("out")
    done(job, "out", "--prune")
    assert job.paid() == new_contents(first.rows, second.rows)
    assert job.loaded("out", second.columns) == from_nothing(second)
    check_changes(job, (first, second), state, from_nothing)

    job.place.export(third)
    done(job, "out")
    assert job.paid() == 0
    check_compaction(job, (first, second), state, from_nothing)
    done(job, "out")
    assert job.paid() == 0

    job.place.export(fourth)
    old = job.place.output("out")
    refused(job, "out", 2, ("--output", f"--reuse {old}"))
    done(job, "new", "--reuse", old)
    assert job.paid() == 0
    assert job.loaded("new", fourth.columns) == from_nothing(fourth)

    job.place.export(fifth)
    refused(job, "new", 3, ("--max-delete",), "--prune")
    kept = done(job, "new")
    assert all(name in kept for name in fourth.files.keys() - fifth.files.keys())
    assert job.paid() == 0
    assert job.loaded("new", fourth.columns) == from_nothing(fourth)


def play_sync(job: NightlyJob, nights: Sequence[Night], from_nothing: FromNothing) -> None:
    """Play the nights as a catalogue that the dataset mirrors."""
    first, second, third, fourth, fifth = nights
    job.place.export(first)
    done(job, "out", "--sync")
    assert job.paid() == new_contents({}, first.rows)
    assert job.loaded("out", first.columns) == from_nothing(first)

    state = job.state("out")
    job.place.export(second)
    summary = done(job, "out", "--sync")
    assert job.paid() == new_contents(first.rows, second.rows)
    assert job.loaded("out", second.columns) == from_nothing(second)
    assert counts_of(changes(first.rows, second.rows, first.columns)) in summary
    check_changes(job, (first, second), state, from_nothing)
    check_compaction(job, (first, second), state, from_nothing)

    for night in (third, shuffled(third)):
        job.place.export(night)
        requests = job.server.stats()["calls"]
        assert "0 new, 0 changed, 0 deleted" in done(job, "out", "--sync")
        assert job.server.stats()["calls"] == requests
        assert job.loaded("out", third.columns) == from_nothing(third)

    job.place.export(fourth)
    old = job.place.output("out")
    refused(job, "out", 2, ("--output", f"--reuse {old}"), "--sync")
    done(job, "new", "--sync", "--reuse", old)
    assert job.paid() == 0
    assert job.loaded("new", fourth.columns) == from_nothing(fourth)

    job.place.export(fifth)
    refused(job, "new", 3, ("--max-delete",), "--sync")
    assert job.loaded("new", fourth.columns) == from_nothing(fourth)


def check_changes(
    job: NightlyJob, nights: tuple[Night, Night], state: str, from_nothing: FromNothing
) -> None:
    """Check that the changes since a state turn its rows into those of a later night."""
    before, after = nights
    feed = job.feed("out", after.columns, state)
    assert {one: changed for one, (changed, _) in feed.items()} == changes(
        before.rows, after.rows, after.columns
    )
    assert replayed(from_nothing(before), feed) == from_nothing(after)


def check_compaction(
    job: NightlyJob, nights: tuple[Night, Night], state: str, from_nothing: FromNothing
) -> None:
    """Merge the parts, which changes neither rows nor what is listed as changed."""
    ended = job.place.call("compact", job.place.output("out"))
    assert ended.code == 0, ended.err
    assert job.loaded("out", nights[1].columns) == from_nothing(nights[1])
    check_changes(job, nights, state, from_nothing)


def counts_of(changed: Mapping[str, Changed]) -> str:
    """Return the changes as the summary of a run with `--sync` counts them."""
    number = collections.Counter(one.change for one in changed.values())
    only = sum(not one.vector_changed for one in changed.values())
    return (
        f"{number[Change.ADDED]:,} new, {number[Change.CHANGED]:,} changed "
        f"({only:,} only in kept columns), {number[Change.DELETED]:,} deleted"
    )


def done(job: NightlyJob, output: str, *args: object) -> str:
    """Run the job, which must complete; return its summary."""
    ended = job.run(output, *args)
    assert ended.code == 0, ended.err
    return ended.out


def refused(job: NightlyJob, output: str, code: int, named: Sequence[str], *args: object) -> None:
    """Run the job, which must end with a code before it sends anything."""
    ended = job.run(output, *args)
    assert ended.code == code, ended.err
    assert all(name in ended.last for name in named), ended.last
    assert "Traceback" not in ended.err
    assert job.paid() == 0

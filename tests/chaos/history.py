"""Random histories: what is done to one dataset, step by step, all of it from one integer."""

from __future__ import annotations

import dataclasses
import enum
import random
from typing import Any

UNIT_ROWS = (10, 17, 30, 50)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a dataset's vectors depend on."""

    model: str
    task: str
    dim: int
    normalize: bool
    titles: bool

    @property
    def flags(self) -> list[str]:
        """The settings as flags of `bulkembed run`."""
        flags = ["--model", self.model, "--task-type", self.task, "--dim", str(self.dim)]
        flags += [] if self.normalize else ["--no-normalize"]
        return flags + (["--title-column", "title"] if self.titles else [])

    def has(self, flags: tuple[str, ...]) -> bool:
        """Whether these flags change nothing."""
        ours = [*self.flags, *(["--normalize"] if self.normalize else [])]
        return any(tuple(ours[at : at + len(flags)]) == flags for at in range(len(ours)))


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of the input; `id` None: the row has none."""

    id: int | None
    text: str | None
    title: str | None = None


Rows = tuple[Row, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """What holds for a whole history."""

    place: str
    """`disk` or `store`."""
    settings: Settings
    other_settings: Settings
    """Of a `--overwrite` run that begins something else."""
    files: dict[str, Rows]
    latency_ms: float
    faults: tuple[tuple[str, float], ...]
    """Kinds of the emulator's faults with their share of calls."""


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """When something happens to a run: at an audit event, or after paid texts and a delay.

    `share` is of the texts that are not paid for yet when the run begins. `event` is (event, part
    of an argument, number), as tests/kill/killer.py takes it; at it the process kills itself.
    """

    share: float = 0.0
    delay_s: float = 0.0
    event: tuple[str, str, int] | None = None
    request: tuple[str, str, int] | None = None
    """The like on a store: (method, part of the path, number)."""

    def __str__(self) -> str:
        if exact := self.event or self.request:
            return "at {} {} #{}".format(*exact)
        return f"{self.delay_s:.2f} s after {self.share:.0%} of the texts"


class End(enum.StrEnum):
    """What ends a run, or disturbs it."""

    KILL_GROUP = "kill -9 of the group"
    KILL_LAUNCHER = "kill -9 of the launcher"
    KILL_WORKER = "kill -9 of one worker"
    SIGINT = "SIGINT"
    SIGTERM = "SIGTERM"
    SIGHUP = "SIGHUP"
    TWICE = "SIGTERM twice"
    PAUSE = "SIGSTOP, and SIGCONT soon"
    PAUSE_SECOND = "SIGSTOP, a second run meanwhile, SIGCONT"
    EDITED = "SIGSTOP, a JSONL file is rewritten in place, SIGCONT"
    OVERTAKEN = "SIGSTOP, the lock is lost, another run completes, SIGCONT"


CLEAN = (End.SIGINT, End.SIGTERM, End.SIGHUP)
COMPLETE = (None, End.PAUSE, End.PAUSE_SECOND, End.OVERTAKEN)
KILLS = (End.KILL_GROUP, End.KILL_LAUNCHER, End.KILL_WORKER, End.TWICE)


@dataclasses.dataclass(frozen=True, slots=True)
class Launch:
    """`bulkembed run`, to its end or to another one."""

    unit_rows: int
    in_flight: int
    workers: int = 1
    end: End | None = None
    moment: Moment | None = None
    fresh: bool = False
    other: bool = False
    """With `fresh`: by the world's other settings."""
    prune: bool = False
    retry: bool = False
    salt: int = 0
    """Of what is written to the input meanwhile."""
    real: bool = False
    """By a new interpreter rather than a fork of the warm parent."""

    def __str__(self) -> str:
        flags = [f"--unit-rows {self.unit_rows} --concurrency {self.in_flight}"]
        flags += [f"--workers {self.workers}"] if self.workers > 1 else []
        flags += ["--overwrite"] if self.fresh else []
        flags += ["(other settings)"] if self.other else []
        flags += ["--prune"] if self.prune else []
        flags += ["--retry-failed"] if self.retry else []
        flags += ["(new interpreter)"] if self.real else []
        end = f": {self.end} {self.moment}" if self.end else ""
        return f"run {' '.join(flags)}{end}"


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """A run with other settings, which must be rejected and change nothing."""

    flags: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {' '.join(self.flags)}: must be rejected"


class Edit(enum.StrEnum):
    """What is done to the input."""

    APPEND = "append rows"
    REWRITE = "rewrite a part of the rows"
    RENAME = "rename"
    REMOVE = "remove"
    ADD = "add a file"
    TOUCH = "touch"


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A change of one input file: the `pick`-th of them, counted round."""

    edit: Edit
    pick: int
    salt: int

    def __str__(self) -> str:
        return f"input: {self.edit} (file {self.pick}, salt {self.salt})"


class Harm(enum.StrEnum):
    """What is damaged; each is listed with what it must cost in model.py."""

    SCANS_GARBAGE = "garbage in _run/plan/files.jsonl"
    SCANS_CUT = "_run/plan/files.jsonl cut"
    SCANS_GONE = "_run/plan/files.jsonl deleted"
    RECORD_CUT = "a commit record cut"
    RECORD_EMPTY = "a commit record emptied"
    RECORD_GONE = "a commit record deleted"
    PART_CUT = "a part of vectors cut"
    PART_GONE = "a part of vectors deleted"
    PART_FLIPPED = "a bit of a part of vectors flipped"
    DEAD_GONE = "a part of dead letters deleted"
    SPILL_CUT = "a file of kept answers cut"
    SPILL_GARBAGE = "garbage in a file of kept answers"
    RUN_FILE_GONE = "_run/run.json deleted"
    RUN_FILE_GARBAGE = "garbage in _run/run.json"
    RUN_GONE = "_run deleted"
    LOCK_GARBAGE = "garbage in the lock"
    ACCOUNT_GARBAGE = "garbage in _run/account.json"
    STRAY = "an unfinished file in _run/units"


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """Damage of the `pick`-th such file, counted round; nothing where there is none."""

    harm: Harm
    pick: int

    def __str__(self) -> str:
        return f"damage: {self.harm} ({self.pick})"


@dataclasses.dataclass(frozen=True, slots=True)
class Compact:
    """`bulkembed compact`, which may kill itself at a moment."""

    size: str
    moment: Moment | None = None

    def __str__(self) -> str:
        killed = f": killed {self.moment}" if self.moment else ""
        return f"compact --target-file-size {self.size}{killed}"


@dataclasses.dataclass(frozen=True, slots=True)
class Cure:
    """The service takes from now on what it rejected."""

    def __str__(self) -> str:
        return "the service rejects no text any more"


Step = Launch | Rejected | Change | Damage | Compact | Cure

EVENTS = (
    ("os.rename", "run.json"),
    ("os.rename", "files.jsonl"),
    ("open", ".spill"),
    ("open", "-part-"),
    ("os.rename", "/vectors/part-"),
    ("os.rename", "/dead_letters/part-"),
    ("os.rename", "/_run/units/"),
    ("os.remove", ".spill"),
    ("os.remove", "_SUCCESS"),
    ("os.remove", "/vectors/part-"),
    ("os.rename", "/vectors/group-"),
    ("os.rename", "/_run/units/group-"),
    ("os.rename", "/_run/summaries/"),
    ("os.rename", "_SUCCESS"),
    ("os.remove", "lock.json"),
)
"""Moments of a run on a local disk, each just before it happens."""
REQUESTS = (
    ("PUT", "/_run/claims/"),
    ("PUT", "/_run/run.json"),
    ("PUT", "/_run/plan/"),
    ("PUT", "/vectors/part-"),
    ("PUT", "/dead_letters/part-"),
    ("PUT", "/_run/units/"),
    ("PUT", "/vectors/group-"),
    ("DELETE", "_SUCCESS"),
    ("DELETE", "/_run/claims/"),
    ("PUT", "/_run/summaries/"),
    ("PUT", "_SUCCESS"),
)
"""Moments of a run on a store, each as the request comes in."""


COMPACT_EVENTS = (
    ("os.rename", "run.json"),
    ("open", "-group-"),
    ("os.rename", "/vectors/group-"),
    ("os.rename", "/dead_letters/group-"),
    ("os.rename", "/_run/units/group-"),
    ("os.rename", "manifest.json"),
    ("os.rename", "_SUCCESS"),
)
COMPACT_REQUESTS = (
    ("PUT", "/_run/run.json"),
    ("PUT", "/vectors/group-"),
    ("PUT", "/dead_letters/group-"),
    ("PUT", "/_run/units/"),
    ("DELETE", "/vectors/part-"),
    ("PUT", "_SUCCESS"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """A world and what happens in it."""

    seed: int
    world: World
    steps: tuple[Step, ...]

    def without(self, number: int) -> History:
        """The same without one step."""
        return dataclasses.replace(self, steps=self.steps[:number] + self.steps[number + 1 :])

    def __str__(self) -> str:
        world = self.world
        rows = ", ".join(f"{name} ({len(rows)} rows)" for name, rows in world.files.items())
        lines = [
            f"seed {self.seed}: on the {world.place}, {rows}",
            f"settings {' '.join(world.settings.flags)}; latency {world.latency_ms:.0f} ms; "
            f"faults {dict(world.faults)}",
            *(f"{number:2}. {step}" for number, step in enumerate(self.steps, 1)),
        ]
        return "\n".join(lines)


_WORDS = [
    "river", "stone", "engine", "music", "harvest", "copper", "window", "planet", "doctor",
    "garden", "winter", "bridge", "letter", "market", "camera", "ocean", "forest", "silver",
    "village", "police", "history", "theory", "kitchen", "battery", "violin", "glacier",
    "harbor", "insect", "jungle", "kingdom", "lantern", "mirror", "needle", "orchard", "pepper",
    "quarry", "rocket", "saddle", "temple", "umbrella", "valley", "whistle", "yellow", "zebra",
    "bread", "carpet", "desert", "effort",
]  # fmt: skip
POISON = "poisonous"
BLANKS = (None, "", "  \t")


class Texts:
    """Rows from a generator of random numbers; ids go up and are never given twice."""

    def __init__(self, chance: random.Random, *, repeats: bool, first_id: int = 0) -> None:
        self._chance = chance
        self._repeats = repeats
        self._next_id = first_id
        self._shared = [self._fresh(n) for n in range(12)]

    def _fresh(self, number: int) -> str:
        return f"{' '.join(self._chance.sample(_WORDS, 5))} {number}"

    def row(self, id: int | None = None) -> Row:
        """A row of its own id, or another text for an id."""
        number = self._next_id if id is None else id
        self._next_id += id is None
        draw = self._chance.random()
        if draw < 0.02:
            return Row(number, self._chance.choice(BLANKS), "a title")
        text = self._fresh(self._chance.randrange(10**6))
        if draw < 0.035:
            text += f" {POISON}"
        elif draw < 0.2 and self._repeats:
            return Row(number, self._chance.choice(self._shared))
        title = f"{self._chance.choice(_WORDS)} {number}" if draw < 0.6 else None
        return Row(number, text, title)

    def rows(self, count: int) -> Rows:
        """So many."""
        return tuple(self.row() for _ in range(count))


def first_id(salt: int) -> int:
    """Where the ids of rows begin that a change with this salt makes."""
    return 10_000 * (salt + 1)


def edited(rows: Rows, change: Change, *, repeats: bool) -> Rows:
    """What a file holds after a change; for ADD of no rows."""
    chance = random.Random(change.salt)
    texts = Texts(chance, repeats=repeats, first_id=first_id(change.salt))
    if change.edit in (Edit.APPEND, Edit.ADD):
        return rows + texts.rows(chance.randint(10, 80))
    if change.edit is Edit.REWRITE:
        return tuple(texts.row(row.id) if chance.random() < 0.3 else row for row in rows)
    return rows


MODELS = ("gemini-embedding-001", "gemini-embedding-2")
TASKS = ("RETRIEVAL_DOCUMENT", "CLUSTERING", "SEMANTIC_SIMILARITY", "RETRIEVAL_QUERY")
NAMES = ("a.parquet", "b.jsonl", "sub/c.parquet", "d.jsonl.gz")


def generate(seed: int, place: str) -> History:
    """The history of a seed."""
    chance = random.Random(f"{seed} {place}")
    settings = _settings(chance)
    world = World(
        place=place,
        settings=settings,
        other_settings=_other(settings, chance),
        files=_files(chance, repeats=place == "disk") | _small_files(seed),
        latency_ms=chance.choice([60, 150, 300]),
        faults=(("503", 0.03), ("reset", 0.03)) if chance.random() < 0.25 else (),
    )
    return History(seed, world, tuple(_steps(chance, world)))


def _steps(chance: random.Random, world: World) -> list[Step]:
    """Some steps; the first is a run, and whoever has completed gets something new to do."""
    steps: list[Step] = [_launch(chance, world)]
    for _ in range(chance.randint(2, 7)):
        last = steps[-1]
        if isinstance(last, Launch) and last.end in COMPLETE:
            if chance.random() < 0.6:
                steps.append(_compact(chance, world))
            edit = chance.choice([Edit.APPEND, Edit.APPEND, Edit.REWRITE, Edit.ADD, Edit.RENAME])
            steps.append(Change(edit, chance.randrange(10), chance.randrange(10**6)))
        steps.append(_step(chance, world))
    return steps


def _settings(chance: random.Random) -> Settings:
    task = chance.choice(TASKS)
    return Settings(
        model=chance.choice(MODELS),
        task=task,
        dim=chance.choice([128, 144]),
        normalize=chance.random() < 0.7,
        titles=task == "RETRIEVAL_DOCUMENT" and chance.random() < 0.5,
    )


def _other(settings: Settings, chance: random.Random) -> Settings:
    """Settings that differ in one thing."""
    other: dict[str, Any] = chance.choice([
        {"model": next(m for m in MODELS if m != settings.model)},
        {"task": "FACT_VERIFICATION", "titles": False},
        {"dim": 160},
        {"normalize": not settings.normalize},
    ])  # fmt: skip
    return dataclasses.replace(settings, **other)


def _files(chance: random.Random, *, repeats: bool) -> dict[str, Rows]:
    texts = Texts(chance, repeats=repeats)
    names = chance.sample(NAMES, chance.randint(1, 3))
    files = {}
    for name in names:
        rows = texts.rows(chance.randint(30, 150))
        if name.startswith("b") and chance.random() < 0.5:
            at = chance.randrange(len(rows))
            rows = (*rows[:at], dataclasses.replace(rows[at], id=None), *rows[at + 1 :])
        files[name] = rows
    return files


def _small_files(seed: int) -> dict[str, Rows]:
    """In one history of three, enough files of a few rows for groups; else none."""
    chance = random.Random(f"{seed} small files")
    if chance.random() > 0.3:
        return {}
    texts = Texts(chance, repeats=False, first_id=5000)
    ends = ("jsonl", "parquet")
    names = (f"small/{number:02}.{ends[number % 2]}" for number in range(chance.randint(20, 40)))
    return {name: texts.rows(chance.randint(1, 4)) for name in names}


def _step(chance: random.Random, world: World) -> Step:
    draw = chance.random()
    if draw < 0.55:
        return _launch(chance, world)
    if draw < 0.62:
        return _compact(chance, world)
    if draw < 0.70:
        return Rejected(_changed_setting(chance, world.settings))
    if draw < 0.84:
        return _change(chance)
    if draw < 0.95:
        return Damage(chance.choice(list(Harm)), chance.randrange(100))
    return Cure()


def _compact(chance: random.Random, world: World) -> Compact:
    size = chance.choice(["256MB", "256MB", "60KB"])
    if chance.random() < 0.5:
        return Compact(size)
    on_disk = world.place == "disk"
    what, part = chance.choice(COMPACT_EVENTS if on_disk else COMPACT_REQUESTS)
    exact = (what, part, chance.choice([1, 1, 2]))
    return Compact(size, Moment(event=exact) if on_disk else Moment(request=exact))


def _change(chance: random.Random) -> Change:
    edits = [Edit.APPEND, Edit.APPEND, *Edit]
    return Change(chance.choice(edits), chance.randrange(10), chance.randrange(10**6))


def _changed_setting(chance: random.Random, settings: Settings) -> tuple[str, ...]:
    changed = chance.choice([
        ("--dim", "192"),
        ("--task-type", "FACT_VERIFICATION"),
        ("--model", next(m for m in MODELS if m != settings.model)),
        ("--no-normalize",) if settings.normalize else ("--normalize",),
        ("--long-text", "dead-letter"),
        ("--vector-type", "float16"),
    ])  # fmt: skip
    return tuple(changed)


def _launch(chance: random.Random, world: World) -> Launch:
    workers = 2 if chance.random() < 0.07 else 1
    end = _end(chance, workers)
    draw = chance.random()
    fresh = draw < 0.1
    return Launch(
        unit_rows=chance.choice(UNIT_ROWS),
        in_flight=chance.choice([2, 3, 4]),
        workers=workers,
        end=end,
        moment=_moment(chance, world, end, workers) if end else None,
        fresh=fresh,
        other=fresh and chance.random() < 0.4,
        prune=0.1 <= draw < 0.2,
        retry=0.2 <= draw < 0.28,
        salt=chance.randrange(10**6),
        real=chance.random() < 0.04,
    )


def _end(chance: random.Random, workers: int) -> End | None:
    if chance.random() < 0.15:
        return None
    ends = [
        *[End.KILL_GROUP] * 4, *[End.KILL_LAUNCHER] * 2, End.SIGINT, *[End.SIGTERM] * 2, End.SIGHUP,
        End.TWICE, End.PAUSE, End.PAUSE_SECOND, End.EDITED, *[End.OVERTAKEN] * 2,
    ]  # fmt: skip
    if workers > 1:
        ends = [
            End.KILL_LAUNCHER, End.KILL_WORKER, End.KILL_GROUP, End.SIGTERM, End.SIGINT,
            End.OVERTAKEN, End.SIGHUP,
        ]  # fmt: skip
    return chance.choice(ends)


def _moment(chance: random.Random, world: World, end: End, workers: int) -> Moment:
    if end is End.KILL_LAUNCHER and workers == 1 and chance.random() < 0.8:
        on_disk = world.place == "disk"
        what, part = chance.choice(EVENTS if on_disk else REQUESTS)
        exact = (what, part, chance.choice([1, 1, 1, 2, 3]))
        return Moment(event=exact) if on_disk else Moment(request=exact)
    early = chance.random() < 0.1
    return Moment(0.0 if early else chance.uniform(0.01, 0.9), chance.uniform(0, 0.12))

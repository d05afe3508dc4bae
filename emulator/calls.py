"""One embed call from parsed JSON to answer: rules, quota, faults, latency, vectors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import time
from typing import NoReturn

from bulkembed.emulator.answers import NAN_MARK, embed_answer, encode, paid_keys
from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.faults import Faults, error_of
from bulkembed.emulator.quotas import Admission, Clock, Quotas, quota_refusal
from bulkembed.emulator.rules import Item, Target, read_batch, read_predict, read_single
from bulkembed.emulator.settings import EmulatorSettings, Fault, OverLimit, ScriptedError
from bulkembed.emulator.stats import Stats
from bulkembed.emulator.word_vectors import Floats, embed, words

_READERS = {
    "batchEmbedContents": read_batch,
    "embedContent": read_single,
    "predict": read_predict,
}
EMBED_METHODS = frozenset(_READERS)
_UNEXPLAINED_DELAY_S = 1.0


class ConnectionFault(Exception):
    """A call that gets no HTTP answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclasses.dataclass
class State:
    """What a server remembers between calls.

    `worker` is one thread that makes the vectors: more of them would only contend for the cores
    that the matrix products use already.
    """

    settings: EmulatorSettings
    clock: Clock
    stats: Stats = dataclasses.field(default_factory=Stats)

    def __post_init__(self) -> None:
        self.worker = concurrent.futures.ThreadPoolExecutor(1, "emulator-vectors")
        self._start()

    def _start(self) -> None:
        self.quotas: dict[tuple[str, str], Quotas] = {}
        self.faults = Faults(self.settings, self.clock.now())

    def reset(self) -> None:
        """As if just started; the clock keeps its offset."""
        flying = self.stats.in_flight
        self.stats = Stats(in_flight=flying, most_in_flight=flying)
        self._start()

    def quotas_of(self, project: str, model: str) -> Quotas:
        """The quotas are a project's and a model's own."""
        key = (project, model)
        if key not in self.quotas:
            self.quotas[key] = Quotas(model, self.settings, self.clock)
        return self.quotas[key]


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A checked call with its tokens, cut at the model's limit."""

    items: list[Item]
    ids: list[list[int]]
    counts: list[int]
    cut: list[bool]


async def answer(state: State, target: Target, project: str, body: object) -> bytes:
    """The body of the answer.

    Raises:
        ApiError: the service's error.
        ConnectionFault: there is to be no answer.
    """
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    prepared = await loop.run_in_executor(state.worker, _prepare, target, body)
    state.faults.check_texts([item.sent for item in prepared.items])
    texts, tokens = len(prepared.items), sum(prepared.counts)
    admission = state.quotas_of(project, target.spec.name).admit(
        texts, tokens, vertex=target.vertex
    )
    fault = state.faults.draw(admission.at)
    content = b""
    spoilt = fault if isinstance(fault, Fault) and fault not in _UNANSWERED else None
    if fault is spoilt:
        content = await loop.run_in_executor(state.worker, _encode, target, prepared, spoilt)
    await asyncio.sleep(max(0.0, started + state.faults.latency_s() - time.monotonic()))
    if fault is not None and fault is not spoilt:
        _fail(state, target, fault, admission)
    state.stats.paid(paid_keys(target, prepared.items), texts, tokens, admission.at)
    return content


_UNANSWERED = frozenset({
    Fault.TOO_MANY, Fault.INTERNAL, Fault.UNAVAILABLE, Fault.DEADLINE, Fault.RESET, Fault.HANG,
})  # fmt: skip


def _fail(
    state: State, target: Target, fault: Fault | ScriptedError, admission: Admission
) -> NoReturn:
    """Raises what the fault says; a spoilt answer is none of these and stays charged."""
    if not state.settings.charge_failed:
        admission.cancel()
    if fault is Fault.TOO_MANY:
        raise quota_refusal(
            target.spec.name, state.settings, "requests", "Minute", None,
            _UNEXPLAINED_DELAY_S, target.vertex,
        )  # fmt: skip
    raise failure_of(fault)


def failure_of(fault: Fault | ScriptedError) -> ApiError | ConnectionFault:
    """The exception that answers a call with the fault, or with nothing at all."""
    return error_of(fault) or ConnectionFault(Fault(str(fault)))


def _prepare(target: Target, body: object) -> Prepared:
    items = _READERS[target.method](target, body)
    most = target.spec.max_tokens
    if target.method == "predict":
        _check_predict_tokens(target, items)
    full = words().token_ids([item.sent for item in items], most)
    cut = [len(ids) > most for ids in full]
    for item, is_long in zip(items, cut, strict=True):
        if is_long and not _may_cut(target, item):
            raise invalid(
                f"The input token count exceeds the maximum number of tokens allowed ({most})."
            )
    counts = [min(len(ids), most) for ids in full]
    return Prepared(items, _meant_ids(items, full, most), counts, cut)


def _meant_ids(items: list[Item], full: list[list[int]], most: int) -> list[list[int]]:
    """The tokens that make the vectors: without the prefix where there is one."""
    ids = [one[:most] for one in full]
    prefixed = [row for row, item in enumerate(items) if item.meant is not item.sent]
    meant = words().token_ids([items[row].meant for row in prefixed], most)
    for row, one in zip(prefixed, meant, strict=True):
        ids[row] = one[:most]
    return ids


def _may_cut(target: Target, item: Item) -> bool:
    if target.spec.prefixes is not None:
        return item.truncate and target.settings.long_text is OverLimit.TRUNCATE
    return item.truncate


def _check_predict_tokens(target: Target, items: list[Item]) -> None:
    most = target.settings.vertex_predict_tokens
    total = words().count([item.sent for item in items])
    if total > most:
        raise invalid(
            f"Unable to submit request because the input token count is {total} but model only "
            f"supports up to {most}. Reduce the input token count and try again."
        )


def _encode(target: Target, prepared: Prepared, fault: Fault | None) -> bytes:
    vectors = _embed(target, prepared)
    characters = sum(len("".join(item.sent.split())) for item in prepared.items)
    body = embed_answer(target, vectors, prepared.counts, prepared.cut, fault, characters)
    content = encode(body, pretty=target.settings.pretty)
    if fault is Fault.NAN:
        return content.replace(NAN_MARK, b"NaN")
    return content[: len(content) // 2] if fault is Fault.BROKEN_JSON else content


def _embed(target: Target, prepared: Prepared) -> list[Floats]:
    """One vector a text; texts of one dim, which nearly always are all, go through together."""
    vectors: dict[int, Floats] = {}
    for dim in {item.dim for item in prepared.items}:
        rows = [row for row, item in enumerate(prepared.items) if item.dim == dim]
        tasks = [prepared.items[row].task for row in rows]
        found = embed(target.spec, dim, tasks, [prepared.ids[row] for row in rows])
        vectors.update(zip(rows, found, strict=True))
    return [vectors[row] for row in range(len(prepared.items))]

"""Check the dataset's token account before each call, and record there what the call cost.

Processes that share no account each write notes of what they have paid.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol, TypeVar

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, OutputError, Unavailable
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.spending_lease import SpendingLease, SpendingNote
from bulkembed.transforms.core.token_account import SpendDecision, TokenAccount, max_billed_each

log = logging.getLogger("bulkembed")

T = TypeVar("T")

CHECK_EVERY_S = 0.05


class AccountStore(Protocol):
    """Where the account is kept; see dataset.account_file."""

    def account(self) -> contextlib.AbstractContextManager[TokenAccount]:
        """Lock the account; store its changes at the end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reservation:
    """What is reserved for a call of the first of its contents."""

    texts: int
    """How many contents the call may have."""
    tokens: int


class Spending:
    """Reserves the maximum that a call can cost before it is sent; lives on one event loop.

    A call for which the budget has no room, whatever those in flight cost, is made smaller.

    Args:
        store: where the account is kept; None for no account.
        budget: what the dataset may cost; None for any sum.
        stop: set when the next call would exceed the budget.
        call_s: how long a call can be in flight.
        write_note: writes a note of what this process has paid; None to write none.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: AccountStore | None,
        budget: Budget | None,
        stop: StopFlag,
        *,
        call_s: float = 60.0,
        write_note: Callable[[SpendingNote], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._budget = budget
        self._stop = stop
        self._call_s = call_s
        self._clock = clock
        self._run_number = 0
        self._queue = asyncio.Lock()
        self._write_note = write_note
        self._lease = SpendingLease(None if budget is None else budget.tokens)
        self._lease_queue = asyncio.Lock()
        self._last_note = SpendingNote()
        self._warned = False
        self._renewal: asyncio.Task[None] | None = None

    async def wait_for_room(self, contents: Sequence[Content]) -> None:
        """Wait until the budget has room for a call of the first contents; reserve nothing.

        The call waits while the reservations of calls in flight leave no room. If the account does
        not change for as long as a call can take, those calls were lost, and the wait ends. Calls
        wait in a queue, and only the first one reads the account.

        Raises:
            Stopping: the budget has no room for the first content, or the run must end.
            OutputError: there is a budget, and the account cannot be kept.
        """
        tokens = max_billed_each(contents)
        if self._budget is None:
            return await self._cover(sum(tokens))
        async with self._queue:
            part = await self._wait_for_tokens(tokens)
        return await self._cover(part.tokens)

    async def _cover(self, tokens: int) -> None:
        """Return once the last note covers a call; write the next note early, if possible."""
        if self._write_note is None:
            return
        while not self._lease.covers(tokens):
            async with self._lease_queue:
                if not self._lease.covers(tokens):
                    await self._renew(tokens)
        if self._lease.is_low and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew_if_low())

    async def _renew_if_low(self) -> None:
        async with self._lease_queue:
            if self._lease.is_low:
                await self._renew(0)

    async def _renew(self, tokens: int) -> None:
        await self._write(self._lease.renewed(self._clock(), tokens))

    async def _write(self, note: SpendingNote) -> None:
        """Write a note; if that fails, the run continues, and a later note has its cost."""
        try:
            if self._write_note is not None and note != self._last_note:
                await asyncio.to_thread(self._write_note, note)
                self._last_note = note
        except OutputError as error:
            if not self._warned:
                log.warning(
                    "%s. The cost of this run is recorded later.", error.message.rstrip(".")
                )
            self._warned = True
        self._lease.written(note)

    async def note_pause(self) -> None:
        """Note exactly what was paid; call this when no call is about to be sent."""
        async with self._lease_queue:
            await self._write(self._lease.ended())

    async def _wait_for_tokens(self, tokens: Sequence[int]) -> Reservation:
        changed_at, changes = self._clock(), -1

        def check(account: TokenAccount) -> tuple[SpendDecision, Reservation]:
            nonlocal changes, changed_at
            if changes != account.changes:
                changes, changed_at = account.changes, self._clock()
            part = self._part(account, tokens)
            return account.check(part.tokens, self._limit), part

        while True:
            decision, part = self._access(check)
            if decision is SpendDecision.YES:
                return part
            if decision is SpendDecision.WAIT and self._clock() >= changed_at + self._call_s:
                self._access(self._close)
                decision = SpendDecision.NO
            if decision is SpendDecision.NO:
                self._end_run()
            await self._stop.sleep(CHECK_EVERY_S)

    def reserve(self, contents: Sequence[Content]) -> Reservation | None:
        """Return what is now reserved for a call of the first contents; None if it has to wait.

        Raises:
            Stopping, OutputError: as `wait_for_room`.
        """
        tokens = max_billed_each(contents)

        def reserve(account: TokenAccount) -> tuple[SpendDecision, Reservation]:
            part = self._part(account, tokens)
            if self._write_note is not None and not self._lease.covers(part.tokens):
                return SpendDecision.WAIT, part
            return account.reserve(part.tokens, self._limit), part

        decision, part = self._access(reserve)
        if decision is SpendDecision.NO:
            self._end_run()
        if decision is SpendDecision.WAIT:
            return None
        self._lease.reserve(part.tokens)
        return part

    def _part(self, account: TokenAccount, tokens: Sequence[int]) -> Reservation:
        """Return the most that a call of the first contents may reserve."""
        texts = account.fitting(tokens, self._limit)
        return Reservation(texts, sum(tokens[:texts]))

    def settle(self, reserved: int, tokens: int, *, confirmed: bool = True) -> None:
        """Record that a call is over and has cost so many tokens."""
        self._lease.settle(reserved, tokens, confirmed=confirmed)
        if self._store is None:
            return
        try:
            with self._store.account() as account:
                account.settle(reserved, tokens, self._run_number, confirmed=confirmed)
        except OutputError as error:
            self._handle_store_error(error)

    def lost(self, reserved: int) -> None:
        """Record a call whose cost is unknown: its reservation counts as paid."""
        self.settle(reserved, reserved, confirmed=False)

    def failed(self, reserved: int, error: CallError) -> None:
        """Record a failed call: if its cost is unknown, its reservation counts as paid."""
        unknown = isinstance(error, Unavailable | Intercepted) and error.http_status is None
        if unknown or isinstance(error, BadAnswer):
            self.lost(reserved)
        else:
            self.settle(reserved, 0)

    @property
    def _limit(self) -> int | None:
        return None if self._budget is None else self._budget.tokens

    def _end_run(self) -> NoReturn:
        if self._budget is not None:
            self._stop.set(StopReason.COST_CAP, self._budget.spent_message())
        raise Stopping("the budget is spent")

    def _close(self, account: TokenAccount) -> None:
        if self._limit is not None:
            account.close(self._limit)

    def _access(self, action: Callable[[TokenAccount], T]) -> T:
        """Return the result of an action on the account; on an empty one if none is kept."""
        if self._store is not None:
            try:
                with self._store.account() as account:
                    self._run_number = account.run_number
                    return action(account)
            except OutputError as error:
                self._handle_store_error(error)
        return action(TokenAccount())

    def _handle_store_error(self, error: OutputError) -> None:
        """Raise the error if there is a budget; otherwise continue without an account."""
        if self._budget is not None:
            raise error
        message = error.message.rstrip(".")
        log.warning("%s. The cost of this run will not be recorded.", message)
        self._store = None

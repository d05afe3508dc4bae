"""Check the dataset's token account before each call, and record there what the call cost.

Processes that share no account each write notes of what they have paid.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, OutputError, Unavailable
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.spending_lease import SpendingLease, SpendingNote
from bulkembed.transforms.core.token_account import SpendDecision, TokenAccount, max_billed_tokens

log = logging.getLogger("bulkembed")

CHECK_EVERY_S = 0.05


class AccountStore(Protocol):
    """Where the account is kept; see dataset.account_file."""

    def account(self) -> contextlib.AbstractContextManager[TokenAccount]:
        """Lock the account; store its changes at the end."""


class Spending:
    """Reserves the maximum that a call can cost before it is sent; lives on one event loop.

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
        """Wait until the budget has room for a call; reserve nothing.

        The call waits while the reservations of calls in flight leave no room. If the account does
        not change for as long as a call can take, those calls were lost, and the wait ends. Calls
        wait in a queue, and only the first one reads the account.

        Raises:
            Stopping: the budget has no room for the call, or the run must end.
            OutputError: there is a budget, and the account cannot be kept.
        """
        tokens = max_billed_tokens(contents)
        await self._cover(tokens)
        if self._budget is None:
            return
        async with self._queue:
            await self._wait_for_tokens(tokens)

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

    async def _wait_for_tokens(self, tokens: int) -> None:
        changed_at, changes = self._clock(), -1

        def check(account: TokenAccount) -> SpendDecision:
            nonlocal changes, changed_at
            if changes != account.changes:
                changes, changed_at = account.changes, self._clock()
            return account.check(tokens, self._limit)

        while (decision := self._access(check)) is SpendDecision.WAIT:
            if self._clock() >= changed_at + self._call_s:
                decision = self._access(self._close)
                break
            await self._stop.sleep(CHECK_EVERY_S)
        if decision is SpendDecision.NO:
            self._end_run()

    def reserve(self, contents: Sequence[Content]) -> int | None:
        """Return the tokens that are now reserved for a call; None if it has to wait for room.

        Raises:
            Stopping, OutputError: as `wait_for_room`.
        """
        tokens = max_billed_tokens(contents)
        if self._write_note is not None and not self._lease.covers(tokens):
            return None
        decision = self._access(lambda account: account.reserve(tokens, self._limit))
        if decision is SpendDecision.NO:
            self._end_run()
        if decision is SpendDecision.WAIT:
            return None
        self._lease.reserve(tokens)
        return tokens

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

    def _close(self, account: TokenAccount) -> SpendDecision:
        if self._limit is not None:
            account.close(self._limit)
        return SpendDecision.NO

    def _access(self, action: Callable[[TokenAccount], SpendDecision]) -> SpendDecision:
        """Return the result of an action on the account; YES without an account."""
        if self._store is None:
            return SpendDecision.YES
        try:
            with self._store.account() as account:
                self._run_number = account.run_number
                return action(account)
        except OutputError as error:
            self._handle_store_error(error)
            return SpendDecision.YES

    def _handle_store_error(self, error: OutputError) -> None:
        """Raise the error if there is a budget; otherwise continue without an account."""
        if self._budget is not None:
            raise error
        message = error.message.rstrip(".")
        log.warning("%s. The cost of this run will not be recorded.", message)
        self._store = None

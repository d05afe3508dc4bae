"""The dataset's account on the way of each call: what may be sent, and what it came to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, OutputError, Unavailable
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.core.account import Account, Leave, most_cost
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.dataset.account_file import AccountFile

log = logging.getLogger("bulkembed")

LOOK_EVERY_S = 0.05


class Spending:
    """Holds the most that a call can cost before it is sent; lives on one event loop.

    Args:
        path: the account; None where none is kept.
        budget: what the dataset may cost; None for any sum.
        stop: set when the next call would go beyond it.
        call_s: how long a call is in the air at most.
    """

    def __init__(
        self,
        path: str | None,
        budget: Budget | None,
        stop: StopFlag,
        *,
        call_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = None if path is None else AccountFile(Path(path))
        self._budget = budget
        self._stop = stop
        self._call_s = call_s
        self._clock = clock
        self._run = 0
        self._line = asyncio.Lock()

    async def room(self, items: Sequence[Content]) -> None:
        """Wait until the account has room for a call; nothing is held.

        Waits for calls in flight where what they hold, but may not cost, is in the way.  Where
        nothing changes for as long as a call takes, what is held is held by nobody any more.
        Calls wait in line, and only the first one looks at the account.

        Raises:
            Stopping: the budget has no room for the call, or the run is to end.
            OutputError: the account cannot be kept, and there is a budget.
        """
        if self._budget is None:
            return
        async with self._line:
            await self._room(most_cost(items))

    async def _room(self, tokens: int) -> None:
        changed_at, seen = self._clock(), -1

        def ask(account: Account) -> Leave:
            nonlocal seen, changed_at
            if seen != account.moves:
                seen, changed_at = account.moves, self._clock()
            return account.ask(tokens, self._most)

        while (leave := self._look(ask)) is Leave.WAIT:
            if self._clock() >= changed_at + self._call_s:
                leave = self._look(self._close)
                break
            await self._stop.sleep(LOOK_EVERY_S)
        if leave is Leave.NEVER:
            self._end()

    def hold(self, items: Sequence[Content]) -> int | None:
        """Return the tokens that a call holds from now on; None where it has to wait for `room`.

        Raises:
            Stopping, OutputError: as `room`.
        """
        tokens = most_cost(items)
        leave = self._look(lambda account: account.hold(tokens, self._most))
        if leave is Leave.NEVER:
            self._end()
        if leave is Leave.WAIT:
            return None
        return 0 if self._file is None else tokens

    @property
    def _most(self) -> int | None:
        return None if self._budget is None else self._budget.tokens

    def _end(self) -> NoReturn:
        if self._budget is not None:
            self._stop.set(StopReason.COST_CAP, self._budget.spent_message())
        raise Stopping("the budget is spent")

    def _close(self, account: Account) -> Leave:
        if self._most is not None:
            account.close(self._most)
        return Leave.NEVER

    def _look(self, ask: Callable[[Account], Leave]) -> Leave:
        """Ask the account; GO where none is kept."""
        if self._file is None:
            return Leave.GO
        try:
            with self._file.account() as account:
                self._run = account.run
                return ask(account)
        except OutputError as error:
            self._lose(error)
            return Leave.GO

    def settle(self, held: int, tokens: int) -> None:
        """A call is over and has cost so many tokens."""
        if self._file is None:
            return
        try:
            with self._file.account() as account:
                account.settle(held, tokens, self._run)
        except OutputError as error:
            self._lose(error)

    def failed(self, held: int, error: CallError) -> None:
        """A call was refused, or nobody knows: then it may have cost all that it holds."""
        unknown = isinstance(error, Unavailable | Intercepted) and error.http_status is None
        self.settle(held, held if unknown or isinstance(error, BadAnswer) else 0)

    def _lose(self, error: OutputError) -> None:
        """An account that cannot be kept ends a run only where there is a budget."""
        if self._budget is not None:
            raise error
        log.warning("%s (what this run costs is not kept)", error.message)
        self._file = None

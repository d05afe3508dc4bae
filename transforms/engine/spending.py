"""The dataset's account on the way of each call: what may be sent, and what it came to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.errors import BadAnswer, CallError, OutputError, Unavailable
from schemas.prices import Budget
from schemas.stop import StopReason
from transforms.core.account import Leave, most_cost
from transforms.core.packing import TextItem
from transforms.engine.stopping import StopFlag, Stopping
from transforms.storage.account_file import AccountFile

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

    async def hold(self, items: Sequence[TextItem]) -> int:
        """The tokens that a call holds from now on.

        Waits for calls in the air where what they hold, but may not cost, is in the way.

        Raises:
            Stopping: the budget has no room for the call, or the run is to end.
            OutputError: the account cannot be kept, and there is a budget.
        """
        file = self._file
        if file is None:
            return 0
        tokens = most_cost(items)
        until = self._clock() + self._call_s
        while (leave := self._ask(file, tokens, over=self._clock() >= until)) is Leave.WAIT:
            await self._stop.sleep(LOOK_EVERY_S)
        if leave is Leave.NEVER and self._budget is not None:
            self._stop.set(StopReason.COST_CAP, self._budget.spent_message())
            raise Stopping("the budget is spent")
        return tokens

    def _ask(self, file: AccountFile, tokens: int, *, over: bool) -> Leave:
        """Asks for a call; what is held for longer than a call takes is held by nobody any more."""
        most = None if self._budget is None else self._budget.tokens
        try:
            with file.account() as account:
                leave = account.hold(tokens, most)
                self._run = account.run
                if leave is Leave.WAIT and over and most is not None:
                    account.close(most)
                    leave = Leave.NEVER
        except OutputError as error:
            self._lose(error)
            return Leave.GO
        return leave

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
        unknown = isinstance(error, Unavailable) and error.http_status is None
        self.settle(held, held if unknown or isinstance(error, BadAnswer) else 0)

    def _lose(self, error: OutputError) -> None:
        """An account that cannot be kept ends a run only where there is a budget."""
        if self._budget is not None:
            raise error
        log.warning("%s (what this run costs is not kept)", error.message)
        self._file = None

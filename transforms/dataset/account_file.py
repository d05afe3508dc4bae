"""The account of a dataset: a locked file that the processes of a run share. POSIX only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.core.token_account import TokenAccount
from bulkembed.transforms.dataset.atomic_files import output_error
from bulkembed.transforms.dataset.output_lock import file_lock

_MAX_BYTES = 4096


class AccountFile:
    """An account in a file, written before a request is sent, so that a kill loses nothing.

    A change takes about 20 µs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def account(self) -> Iterator[TokenAccount]:
        """Lock the account, yield it, and write it if it changed. Never await inside.

        Raises:
            OutputError: the file cannot be written, or is damaged.
        """
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise output_error(str(self.path), error) from error
        try:
            with file_lock(file, self.path):
                account = self._read(file)
                before = account.to_bytes()
                yield account
                if account.to_bytes() != before:
                    os.pwrite(file, account.to_bytes(), 0)
        except OSError as error:
            raise output_error(str(self.path), error) from error
        finally:
            os.close(file)

    def _read(self, file: int) -> TokenAccount:
        try:
            return TokenAccount.from_bytes(os.pread(file, _MAX_BYTES, 0))
        except (ValueError, TypeError) as error:
            raise OutputError(
                f"{self.path} is damaged: {error}. Delete it, and the account starts from the "
                "cost of committed rows."
            ) from None

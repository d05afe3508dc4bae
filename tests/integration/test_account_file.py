"""The account of a dataset on disk, shared by processes."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from pathlib import Path

import pytest

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.core.token_account import TokenAccount
from bulkembed.transforms.dataset.account_file import AccountFile


def spend(path: Path) -> None:
    file = AccountFile(path)
    for _ in range(200):
        with file.account() as account:
            account.reserve(7, None)
        with file.account() as account:
            account.settle(7, 3, account.run_number)


def test_concurrent_processes_lose_no_changes(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(3, context) as pool:
        list(pool.map(spend, [path] * 3))
    with AccountFile(path).account() as account:
        assert account == TokenAccount(paid=3 * 200 * 3, changes=3 * 200 * 2)


def test_a_failed_change_is_not_written(tmp_path: Path) -> None:
    file = AccountFile(tmp_path / "account.json")

    def fail() -> None:
        with file.account() as account:
            account.reserve(7, None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with file.account() as account:
        assert account == TokenAccount()


def test_the_error_for_a_damaged_account_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text('{"paid": 1')
    with (
        pytest.raises(OutputError, match=r"is damaged: .*\. Delete it"),
        AccountFile(path).account(),
    ):
        raise AssertionError


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    file = AccountFile(tmp_path / "none/account.json")
    with pytest.raises(OutputError, match=r"account\.json cannot be written"), file.account():
        raise AssertionError

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.calls.shared_quota import (
    SharedQuota,
    default_folder,
    quota_file,
    secret_digest,
)
from bulkembed.transforms.core.quota_mirror import QuotaMirror

NOW = 1_780_000_000.0
TAKER = """
import sys
from pathlib import Path
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.calls.shared_quota import SharedQuota
shared = SharedQuota(QuotaMirror(QuotaLimits(rpm=1000)), Path(sys.argv[1]))
sys.stdin.readline()
taken = 0
for _ in range(2000):
    with shared.transaction() as mirror:
        if mirror.wait_s(1_780_000_000.0, 1, 10) == 0:
            ticket = mirror.take(1_780_000_000.0, 1, 10)
            mirror.settle(ticket, 1_780_000_000.0, 10)
            taken += 1
print(taken)
"""


def shared(path: Path, rpm: int = 10) -> SharedQuota:
    return SharedQuota(QuotaMirror(QuotaLimits(rpm=rpm)), path)


def takes(quota: SharedQuota) -> bool:
    with quota.transaction() as mirror:
        if mirror.wait_s(NOW, 1, 1):
            return False
        mirror.settle(mirror.take(NOW, 1, 1), NOW)
    return True


def test_two_processes_together_take_exactly_the_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKER, str(tmp_path / "q" / "x.quota")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    taken = [int(taker.communicate("go\n", timeout=60)[0]) for taker in takers]
    assert sum(taken) == 1000


def test_the_next_run_knows_what_the_last_one_used(tmp_path: Path) -> None:
    first, second = shared(tmp_path / "x"), shared(tmp_path / "x")
    assert sum(takes(first) for _ in range(6)) == 6
    first.close()
    assert sum(takes(second) for _ in range(6)) == 4


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    quota, taken = shared(tmp_path / "x", rpm=300), []
    work = [
        threading.Thread(target=lambda: taken.extend(takes(quota) for _ in range(200)))
        for _ in range(3)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert sum(taken) == 300


def test_an_error_in_a_transaction_stores_nothing_and_unlocks(tmp_path: Path) -> None:
    quota, other = shared(tmp_path / "x", rpm=1), shared(tmp_path / "x", rpm=1)
    with pytest.raises(ValueError, match="must wait"), quota.transaction() as mirror:
        [mirror.take(NOW, 1, 1) for _ in range(2)]
    assert takes(other)
    assert not takes(quota)


@pytest.mark.parametrize("content", [b"BEQ\x7f" + bytes(500), b"x", b"BEQ\x01" + bytes(100)])
def test_a_file_of_another_version_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert takes(shared(path, rpm=1))
    assert not takes(shared(path, rpm=1))


def test_a_removed_file_is_made_again(tmp_path: Path) -> None:
    quota = shared(tmp_path / "x", rpm=1)
    assert takes(quota)
    (tmp_path / "x").unlink()
    assert takes(quota)
    assert not takes(shared(tmp_path / "x", rpm=1))


def test_neither_name_nor_content_reveals_the_key(tmp_path: Path) -> None:
    key = "AIzaSyVerySecret"
    path = quota_file("http://h/", secret_digest(key), "m", tmp_path)
    assert takes(shared(path))
    assert key not in path.name
    assert key.encode() not in path.read_bytes()
    assert path == quota_file("http://h", secret_digest(key), "m", tmp_path)
    assert path != quota_file("http://h", secret_digest(key), "n", tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_only_this_user_can_access_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = default_folder()
    assert folder == tmp_path / "bulkembed" / "quota"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be opened"):
        takes(shared(tmp_path / "file" / "x"))


def test_a_file_that_fails_later_is_reported_once_and_delays_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "home"
    quota = SharedQuota(QuotaMirror(QuotaLimits(rpm=10)), folder / "a.quota")
    with quota.transaction() as mirror:
        mirror.take(0.0, 4, 4)
    (folder / "a.quota").unlink()
    folder.rmdir()
    folder.write_text("")  # Like a network home that is gone: the file cannot be opened any more.
    logging.getLogger("bulkembed").propagate = True
    for _ in range(2):
        with quota.transaction() as mirror:
            mirror.take(0.0, 1, 1)
    assert mirror.wait_s(0.0, 5, 5) > 1  # 6 of 10 are in flight: the mirror still counts.
    warnings = [r.getMessage() for r in caplog.records if "do not see" in r.getMessage()]
    assert len(set(warnings)) == 1
    quota.close()

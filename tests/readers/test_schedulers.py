"""Airflow loads the DAG of its page, and Kubernetes's schema accepts the manifest of its page."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

import pytest
from support.cli import process
from support.pages import ROOT, of_language

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.readers

AIRFLOW = ROOT / "docs/airflow.md"
KUBERNETES = ROOT / "docs/kubernetes.md"
JOB = "input: shards/**/*.parquet\noutput: out\ntext-column: body\ndim: 768\n"
TRY = """
import sys
sys.path += sys.argv[2:]
import embed_articles
task = embed_articles.embed_articles().get_task("embed")
assert task.retries == 80, task.retries
try:
    task.python_callable(folder=sys.argv[1])
    print("success")
except Exception as error:
    print(type(error).__name__)
"""


@pytest.fixture
def folder(workplace: Path) -> Path:
    """What the DAG works in: settings and a key."""
    [dag] = of_language(AIRFLOW, "python")
    (workplace / "embed_articles.py").write_text(dag)
    (workplace / "job.yaml").write_text(JOB)
    (workplace / "key").write_text("a-key")
    return workplace


def outcome(folder: Path, python: str, env: dict[str, str]) -> str:
    """Return how one attempt of the DAG's task ends, as Airflow sees it."""
    # Packages that Airflow's environment lacks come from this one.
    ours = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    ended = process(python, "-c", TRY, str(folder), *ours, cwd=folder, timeout_s=100, **env)
    assert ended.code == 0, ended.err
    return ended.out.splitlines()[-1]


def test_the_task_of_airflow_succeeds(folder: Path, python: str, elsewhere: dict[str, str]) -> None:
    assert outcome(folder, python, elsewhere) == "success"
    assert (folder / "out/articles/_SUCCESS").exists()


def test_airflow_tries_again_when_the_day_is_spent(
    folder: Path, python: str, elsewhere: dict[str, str]
) -> None:
    with EmulatorServer(EmulatorSettings(rpd=1)) as server:
        env = {**elsewhere, "GOOGLE_GEMINI_BASE_URL": server.url}
        assert outcome(folder, python, env) == "RunStopped"


def test_airflow_fails_at_once_where_somebody_is_needed(
    folder: Path, python: str, elsewhere: dict[str, str]
) -> None:
    (folder / "job.yaml").write_text(JOB.replace("body", "nowhere"))
    assert outcome(folder, python, elsewhere) == "AirflowFailException"


def test_airflow_skips_the_task_while_another_run_is_at_work(
    folder: Path, python: str, elsewhere: dict[str, str]
) -> None:
    lock = folder / "out/articles/_run/lock.json"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert outcome(folder, python, elsewhere) == "AirflowSkipException"


def test_kubernetes_knows_every_field_of_the_manifest(tmp_path: Path, python: str) -> None:
    [manifest] = of_language(KUBERNETES, "yaml")
    (tmp_path / "embed-articles.yaml").write_text(manifest)
    command = str(Path(python).with_name("kubernetes-validate"))
    checked = process(command, "--strict", str(tmp_path / "embed-articles.yaml"))
    assert checked.code == 0, checked.out + checked.err

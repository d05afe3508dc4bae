"""The recipes for schedulers do what their pages say, as far as one machine can show."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from support.cli import process
from support.pages import NOT_RUN, ROOT, fences, of_language, run_snippets, understand

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.cli.options import OPTIONS
from bulkembed.schemas.stop import ExitCode

PAGE = ROOT / "docs/schedule.md"
AIRFLOW = ROOT / "docs/airflow.md"
KUBERNETES = ROOT / "docs/kubernetes.md"
NEEDS_A_PERSON = {
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.TOO_MANY_DEAD_LETTERS,
    ExitCode.COST_CAP,
}
CRON_TIME = re.compile(r"^(?:(?:\*|\d+(?:-\d+)?)(?:/\d+)?(?:,\d+)* ){5}\S+$")


def test_the_script_for_cron_prints_only_if_a_person_is_needed(
    workplace: Path, at_home: dict[str, str]
) -> None:
    settings, script = of_language(PAGE, "bash")
    with EmulatorServer(EmulatorSettings(rpd=1)) as server:
        env = {**at_home, "GOOGLE_GEMINI_BASE_URL": server.url}
        assert run_snippets("bash", [settings, script], workplace, env) == ""
    assert "the day's quota is spent" in (workplace / "embed.log").read_text()

    (workplace / "job.yaml").write_text("input: nowhere\noutput: out/articles\n")
    ended = process("./embed.sh", cwd=workplace, **at_home)
    assert ended.out.startswith("bulkembed ended with 2:\n")
    assert "nowhere" in ended.out


def test_the_crontab_calls_that_script() -> None:
    [crontab] = of_language(PAGE, "crontab")
    *variables, entry = crontab.splitlines()
    assert all(re.fullmatch(r"[A-Z]+=\S+", line) for line in variables)
    assert CRON_TIME.match(entry)
    assert Path(entry.split()[-1]).name == "embed.sh"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return the folder of the page's units, with the `bulkembed` of this environment."""
    for unit in of_language(PAGE, "ini"):
        path = Path(unit.splitlines()[0].removeprefix("# "))
        assert path.parent == Path("/etc/systemd/system")
        here = unit.replace("/opt/bulkembed/.venv/bin", str(Path(sys.executable).parent))
        (tmp_path / path.name).write_text(here)
    return tmp_path


def section(unit: Path, name: str) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser[name]


def test_systemd_restarts_only_an_incomplete_run(
    units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = section(units / "bulkembed.service", "Service")
    assert service["Restart"] == "on-failure"
    never = set(map(int, service["RestartPreventExitStatus"].split()))
    assert never == set(ExitCode) - {ExitCode.COMPLETE, ExitCode.INCOMPLETE}
    monkeypatch.chdir(units)
    (units / "job.yaml").write_text("input: shards\noutput: out\n")
    understand(shlex.split(service["ExecStart"])[1:])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_units(units: Path) -> None:
    files = map(str, sorted(units.iterdir()))
    checked = process("systemd-analyze", "verify", "--man=no", *files)
    ours = [line for line in checked.err.splitlines() if "bulkembed" in line]
    assert (checked.code, ours) == (0, [])


def test_the_job_of_kubernetes_fails_if_a_person_is_needed() -> None:
    [manifest] = map(yaml.safe_load, of_language(KUBERNETES, "yaml"))
    job = manifest["spec"]["jobTemplate"]["spec"]
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert set(rule["onExitCodes"]["values"]) == NEEDS_A_PERSON
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    understand(container["args"])
    [mount] = container["volumeMounts"]
    assert f"--api-key-file={mount['mountPath']}/key" in container["args"]


def test_the_image_starts_the_command() -> None:
    [dockerfile] = [fence for fence in fences(KUBERNETES) if fence.language == "dockerfile"]
    assert dockerfile.comment.startswith(NOT_RUN)
    lines = dict(line.split(maxsplit=1) for line in dockerfile.code.splitlines())
    assert list(lines) == ["FROM", "COPY", "RUN", "ENTRYPOINT"]
    source, target = lines["COPY"].split()
    assert lines["RUN"].split()[-1] == target
    assert (ROOT / source / "pyproject.toml").exists()
    assert json.loads(lines["ENTRYPOINT"]) == ["bulkembed"]


def test_the_dag_calls_a_run_with_options_of_the_command() -> None:
    [dag] = of_language(AIRFLOW, "python")
    calls = [node for node in ast.walk(ast.parse(dag)) if isinstance(node, ast.Call)]
    [run] = [call for call in calls if ast.unparse(call.func) == "bulkembed.run"]
    names = {name.removeprefix("--").replace("-", "_") for one in OPTIONS for name in one.opts}
    assert {str(keyword.arg) for keyword in run.keywords} <= names

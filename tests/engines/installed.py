"""Real engines, built and downloaded into `.engines/` of the checkout; each is fetched once."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from bulkembed.pipeline.runners.staging import pinned_requirements

HOME = Path(__file__).parents[2] / ".engines"
BEAM = f"v{metadata.version('apache-beam')}"
JAVA_BEAM = "2.62.0"
"""The newest whose parts are all on Maven Central, for Flink and for Spark; 2026-11."""
FAKE_GCS = "github.com/fsouza/fake-gcs-server@v1.56.1"
RATE_LIMIT = "github.com/envoyproxy/ratelimit/src/service_cmd@v1.4.1-0.20260122083618-3fb702589d36"
MINIREDIS = "github.com/alicebob/miniredis/v2@v2.33.0"
REDIS_MAIN = """\
package main

import "github.com/alicebob/miniredis/v2"
import "os"

func main() {
	if err := miniredis.NewMiniRedis().StartAddr(os.Args[1]); err != nil { panic(err) }
	select {}
}
"""
"""Envoy's service keeps its counts in Redis; this one is in memory, and needs nothing but Go."""
UV = (sys.executable, "-m", "uv")
LEFT_OUT = ("isal", "pysimdjson")
"""Pinned packages that workers' Python lacks, so that a job runs only if its pins are installed."""


class NotHere(Exception):
    """A toolchain is missing, or does not give what is asked of it; the engine is skipped."""


@dataclasses.dataclass(frozen=True)
class JavaParts:
    """A job server as Maven's parts: what Beam's own jar of it has inside."""

    main: str
    artifacts: tuple[str, ...]


JOB_SERVERS = {
    "flink": JavaParts(
        "org.apache.beam.runners.flink.FlinkJobServerDriver",
        (
            f"org.apache.beam:beam-runners-flink-1.19:{JAVA_BEAM}",
            "org.apache.flink:flink-runtime-web:1.19.0",
            "org.slf4j:slf4j-simple:1.7.36",
        ),
    ),
    "spark": JavaParts(
        "org.apache.beam.runners.spark.SparkJobServerDriver",
        (
            f"org.apache.beam:beam-runners-spark-3:{JAVA_BEAM}",
            f"org.apache.beam:beam-runners-java-job-service:{JAVA_BEAM}",
            "org.apache.spark:spark-core_2.12:3.5.0",
            "org.apache.spark:spark-streaming_2.12:3.5.0",
        ),
    ),
}


def prism() -> Path:
    """Prism's binary, of the installed Beam's version."""
    return _once(HOME / BEAM / "prism", lambda: _beam("go/cmd/prism"))


def boot() -> Path:
    """The program that a Python worker's container starts with, of the same version."""
    return _once(HOME / BEAM / "container", lambda: _beam("python/container"))


def job_server(engine: str) -> Path:
    """A jar that starts the engine's job server with an engine of its own."""
    return _once(HOME / JAVA_BEAM / f"{engine}.jar", lambda: _maven(engine))


def fake_gcs() -> Path:
    """A server that speaks as Google's object store does."""
    return _once(HOME / "google" / "fake-gcs-server", lambda: _go(FAKE_GCS, HOME / "google"))


def rate_limit_service() -> Path:
    """Envoy's rate limit service."""
    folder = HOME / "envoy"
    return _once(folder / "service_cmd", lambda: _go(RATE_LIMIT, folder))


def redis() -> Path:
    """A Redis in memory; takes its address, host:port."""
    folder = HOME / "envoy"
    return _once(folder / "redis", lambda: _redis(folder))


def google_python() -> Path:
    """A Python with Beam's Google extra, which is too large for everybody's environment."""
    home = HOME / f"google/python-{sys.version_info.minor}"
    return _once(home, lambda: _google(home)) / "bin/python"


def worker() -> Path:
    """A command that starts a worker as its container would: Beam is there, bulkembed is not."""
    boots, home = boot(), HOME / f"python-{sys.version_info.minor}"
    image = _once(home / "image", lambda: _image(home / "image"))
    script = home / "worker.sh"
    packages = f"lib/python3.{sys.version_info.minor}/site-packages"
    script.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        set -e
        mkdir -p {shlex.quote(str(home))}/workers
        own=$(mktemp -d {shlex.quote(str(home))}/workers/XXXXXX)
        {shlex.quote(sys.executable)} -m venv --without-pip "$own"
        echo {shlex.quote(str(image))} > "$own"/{packages}/image.pth
        export PATH="$own/bin:$PATH" RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
        cd "$own"  # Not the checkout, whose packages Python would import instead of those staged.
        for arg; do  # Prism 2.77 sends --id='...' with the quotes in it.
          shift
          set -- "$@" "$(printf %s "$arg" | tr -d "'")"
        done
        exec {shlex.quote(str(boots))} "$@" --semi_persist_dir="$own"
        """)
    )
    script.chmod(0o755)
    return script


def forget_workers() -> None:
    """Removes what workers have installed for themselves."""
    for home in HOME.glob("python-*/workers"):
        shutil.rmtree(home)


def _once(path: Path, make: Callable[[], object]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make()
        assert path.exists(), path
    return path


def _beam(package: str) -> None:
    _go(f"github.com/apache/beam/sdks/v2/{package}@{BEAM}", HOME / BEAM)


def _go(package: str, folder: Path) -> None:
    _call(["go", "install", package], GOBIN=str(folder))


def _redis(folder: Path) -> None:
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    (source / "main.go").write_text(REDIS_MAIN)
    for words in (["mod", "init", "redis"], ["get", MINIREDIS], ["build", "-o", str(folder)]):
        _call(["go", *words], source)


def _image(folder: Path) -> None:
    pins = [pin for pin in pinned_requirements() if pin.split("==")[0] not in LEFT_OUT]
    beam = f"apache-beam=={metadata.version('apache-beam')}"
    wanted = ["pip", "setuptools", beam, *pins]
    making = folder.with_name("image.tmp")
    shutil.rmtree(making, ignore_errors=True)
    _call([*UV, "pip", "install", "--python", sys.executable, "--target", str(making), *wanted])
    making.rename(folder)


def _google(home: Path) -> None:
    making = home.with_name("python.tmp")
    shutil.rmtree(making, ignore_errors=True)
    _call([*UV, "venv", "--relocatable", "--python", sys.executable, str(making)])
    constraints = home.with_name("constraints.txt")
    constraints.write_text("\n".join(pinned_requirements()))  # What is staged is what is here.
    wanted = ["pip", "-e", f"{HOME.parent}[dataflow]", "--constraint", str(constraints)]
    _call([*UV, "pip", "install", "--python", str(making / "bin/python"), *wanted])
    making.rename(home)


def _maven(engine: str) -> None:
    parts = JOB_SERVERS[engine]
    folder = HOME / JAVA_BEAM / engine
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pom.xml").write_text(_pom(engine, parts))
    _call(["mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=lib"], folder)
    jars = [path.resolve().as_uri() for path in sorted((folder / "lib").glob("*.jar"))]
    manifest = [
        "Manifest-Version: 1.0",
        f"Main-Class: {parts.main}",
        f"Class-Path: {' '.join(jars)}",
    ]
    with zipfile.ZipFile(HOME / JAVA_BEAM / f"{engine}.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "".join(map(_manifest_line, manifest)))


def _pom(engine: str, parts: JavaParts) -> str:
    needed = ""
    for artifact in parts.artifacts:
        group, name, version = artifact.split(":")
        needed += (
            f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
            f"<version>{version}</version></dependency>\n"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>\n'
        f"<groupId>bulkembed</groupId><artifactId>{engine}</artifactId><version>1</version>\n"
        f"<dependencies>\n{needed}</dependencies></project>\n"
    )


def _manifest_line(line: str) -> str:
    """A line of a jar's manifest: at most 72 bytes, continued behind a blank."""
    pieces = [line[:70], *(f" {line[at : at + 69]}" for at in range(70, len(line), 69))]
    return "".join(f"{piece}\r\n" for piece in pieces)


def _call(command: list[str], cwd: Path | None = None, **environ: str) -> None:
    """Runs a tool to its end.

    Raises:
        NotHere: there is no such tool, or it fails.
    """
    if shutil.which(command[0]) is None:
        raise NotHere(f"{command[0]} is not installed")
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotHere(f"{shlex.join(command[:4])}: {said[-1] if said else done.returncode}")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

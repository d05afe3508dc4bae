"""The code for workers on other machines: a wheel of what runs here, and pins of what it needs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bulkembed

NAME = "bulkembed"
PACKAGES = ("pipeline", "schemas", "transforms")
"""What a worker imports of `bulkembed`; the emulator stays at home."""
ON_WORKERS = "apache-beam"
"""Every worker has Beam, and what Beam itself needs, in the launcher's version."""
NO_DOWNLOAD = "skip"
_LOCAL_MASTERS = ("[local]", "[auto]")


@contextlib.contextmanager
def staged(options: PipelineOptions) -> Iterator[None]:
    """Has Beam stage this package and its pins, where workers install what they run.

    Flags that say otherwise stay: `--requirements_file` replaces the pins, and with
    `--requirements_cache=DIR` the pinned packages are staged too, not only named.
    """
    if not installs(options):
        yield
        return
    setup = options.view_as(SetupOptions)
    with tempfile.TemporaryDirectory(prefix="bulkembed-staging-") as folder:
        wheel = write_wheel(Path(folder))
        setup.extra_packages = [*(setup.extra_packages or []), str(wheel)]
        if setup.requirements_file is None:
            pins = Path(folder) / "requirements.txt"
            pins.write_text("".join(f"{pin}\n" for pin in pinned_requirements()))
            setup.requirements_file = str(pins)
            setup.requirements_cache = setup.requirements_cache or NO_DOWNLOAD
        yield


def installs(options: PipelineOptions) -> bool:
    """Whether the job's workers install what is staged: those of a container or a boot process."""
    environment = options.view_as(PortableOptions).environment_type
    return environment != "EXTERNAL" and not in_launcher(options)


def in_launcher(options: PipelineOptions) -> bool:
    """Whether the engine's workers are threads of this process, as Beam has it for local ones."""
    environment = options.view_as(PortableOptions).environment_type
    return environment == "LOOPBACK" or (environment is None and _engine_is_local(options))


def on_this_machine(options: PipelineOptions) -> bool:
    """Whether all workers share this machine's files: threads, or processes of an engine here."""
    environment = options.view_as(PortableOptions).environment_type
    return in_launcher(options) or (environment == "PROCESS" and _engine_is_local(options))


def _engine_is_local(options: PipelineOptions) -> bool:
    runner = str(options.view_as(StandardOptions).runner)
    if runner == "FlinkRunner":
        return options.view_as(FlinkRunnerOptions).flink_master in _LOCAL_MASTERS
    if runner == "SparkRunner":
        return str(options.view_as(SparkRunnerOptions).spark_master_url).startswith("local")
    return runner not in ("PortableRunner", "DataflowRunner")


def pinned_requirements() -> list[str]:
    """What the package needs beside Beam, as `name==version` of what is installed here, sorted."""
    found: dict[str, str] = {}
    left = [NAME]
    while left:
        for line in metadata.requires(left.pop()) or []:
            needed = Requirement(line)
            name = canonicalize_name(needed.name)
            wanted = needed.marker is None or needed.marker.evaluate({"extra": ""})
            if wanted and name not in found and name != ON_WORKERS:
                found[name] = metadata.version(name)
                left.append(name)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def write_wheel(folder: Path) -> Path:
    """A wheel of the packages as they stand on this machine, be they installed or a checkout.

    Source: the binary distribution format, packaging.python.org, 2026-11.
    """
    installed = metadata.distribution(NAME)
    info = f"{NAME}-{installed.version}.dist-info"
    files = dict(_package_files())
    files[f"{info}/METADATA"] = (installed.read_text("METADATA") or "").encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: bulkembed\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    listed = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*listed, f"{info}/RECORD,,\n"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            # A fixed time, so that equal code makes equal wheels.
            wheel.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


def _package_files() -> Iterator[tuple[str, bytes]]:
    root = Path(bulkembed.__file__).parent
    # In a checkout the packages are links, which `rglob` does not follow from above.
    paths = [*root.glob("*"), *(path for name in PACKAGES for path in (root / name).rglob("*"))]
    for path in sorted(paths):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{NAME}/{path.relative_to(root).as_posix()}", path.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()

"""The code for workers on other machines: a wheel of this package, and pins of its dependencies."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bulkembed.pipeline.runners.beam_options import installs_packages
from bulkembed.schemas.embedding import EmbeddingConfig

NAME = "bulkembed"
PACKAGES = ("pipeline", "schemas", "transforms")
"""What workers import of `bulkembed`; the emulator is not staged."""
ON_WORKERS = "apache-beam"
"""Every worker has Beam in the launcher's version, with Beam's own dependencies."""
NO_DOWNLOAD = "skip"


@contextlib.contextmanager
def staged(options: PipelineOptions, extras: Collection[str] = ()) -> Iterator[None]:
    """Have Beam stage this package and its pins, if the workers install what is staged.

    The user's flags win: `--requirements_file` replaces the pins, and with
    `--requirements_cache=DIR` Beam stages the pinned packages themselves, not only their names.

    Args:
        options: Beam's, which are changed.
        extras: those of this package that the workers need.
    """
    if not installs_packages(options):
        yield
        return
    setup = options.view_as(SetupOptions)
    with tempfile.TemporaryDirectory(prefix="bulkembed-staging-") as folder:
        wheel = write_wheel(Path(folder))
        setup.extra_packages = [*(setup.extra_packages or []), str(wheel)]
        if setup.requirements_file is None:
            pins = Path(folder) / "requirements.txt"
            pins.write_text("".join(f"{pin}\n" for pin in pinned_requirements(extras)))
            setup.requirements_file = str(pins)
            setup.requirements_cache = setup.requirements_cache or NO_DOWNLOAD
        yield


def extras_for(embedding: EmbeddingConfig) -> tuple[str, ...]:
    """Return the extras that workers need."""
    return ("media",) if embedding.media is not None else ()


def pinned_requirements(extras: Collection[str] = ()) -> list[str]:
    """Return the package's dependencies except Beam, as sorted `name==version` installed here.

    Args:
        extras: those of this package whose dependencies are returned too.
    """
    found: dict[str, str] = {}
    todo = [(NAME, frozenset(extras))]
    seen = set(todo)
    while todo:
        package, its_extras = todo.pop()
        for line in metadata.requires(package) or []:
            needed = Requirement(line)
            name = canonicalize_name(needed.name)
            if name == ON_WORKERS or not _is_wanted(needed, its_extras):
                continue
            found[name] = metadata.version(name)
            if (one := (name, frozenset(needed.extras))) not in seen:
                seen.add(one)
                todo.append(one)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _is_wanted(needed: Requirement, extras: Collection[str]) -> bool:
    marker = needed.marker
    return marker is None or any(marker.evaluate({"extra": one}) for one in ("", *extras))


def write_wheel(folder: Path) -> Path:
    """Write a wheel of the package as it is on this machine, installed or in a checkout.

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
            # A fixed time makes wheels of equal code equal.
            wheel.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


def _package_files() -> Iterator[tuple[str, bytes]]:
    # The package imports this module, so that this module cannot import the package.
    root = Path(str(sys.modules[NAME].__file__)).parent
    # In a checkout the packages are links, which `rglob` does not follow from their parent.
    paths = [*root.glob("*"), *(path for name in PACKAGES for path in (root / name).rglob("*"))]
    for path in sorted(paths):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{NAME}/{path.relative_to(root).as_posix()}", path.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()

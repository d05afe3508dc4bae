"""Object stores on this machine that speak the real protocols, each behind a `StoreProxy`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import pyarrow.fs as pafs

from support.cli import Ended
from support.store_proxy import StoreProxy

TOOLS = Path(__file__).parents[2] / ".stores"
"""Where `make test-stores` puts the servers that are no Python packages."""
BUCKET = "bucket"
SECRET = "aHVzaC1odXNoLWh1c2g="
AZURITE_ACCOUNT = "devstoreaccount1"


@dataclasses.dataclass(frozen=True)
class Store:
    """A store with one bucket."""

    name: str
    root: str
    """The URI of a folder of the bucket."""
    proxy: StoreProxy
    environ: Mapping[str, str]
    """What a process needs to reach the store through the proxy."""
    filesystem: pafs.FileSystem
    """The store itself, without the proxy."""

    def run(self, *args: object) -> Ended:
        """`bulkembed run` in a process of its own, through the proxy."""
        return finish(self.start(*args))

    def start(self, *args: object) -> subprocess.Popen[str]:
        """The same, not waited for."""
        command = [sys.executable, "-m", "bulkembed", *map(str, args)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **self.environ},
        )  # fmt: skip

    def path(self, uri: str) -> str:
        """The path of a URI below `root`, as the file system takes it."""
        return f"{BUCKET}/{uri.split('://')[1].partition('/')[2]}"

    def files(self, uri: str) -> dict[str, int]:
        """The files below a URI and their sizes."""
        base = self.path(uri)
        selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        found = {i.path.removeprefix(f"{base}/"): i.size for i in infos if i.is_file}
        return dict(sorted(found.items()))

    def read(self, uri: str) -> bytes:
        """A file's bytes."""
        with self.filesystem.open_input_stream(self.path(uri), compression=None) as stream:
            return bytes(stream.read())

    def write(self, uri: str, data: bytes) -> None:
        """Writes a file."""
        with self.filesystem.open_output_stream(self.path(uri), compression=None) as stream:
            stream.write(data)

    def fetch(self, uri: str, folder: Path) -> Path:
        """Copies a folder of the store to a local one."""
        for name in self.files(uri):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(f"{uri}/{name}"))
        return folder


def finish(process: subprocess.Popen[str], timeout: float = 200) -> Ended:
    """How a process ended."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


@contextlib.contextmanager
def s3() -> Iterator[Store]:
    """Moto's server."""
    port = _free_port()
    here = f"127.0.0.1:{port}"
    # Isolated, because other processes of tests do not find what moto needs.
    command = [sys.executable, "-I", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with StoreProxy(here) as proxy, _serving(command, port):
        httpx2.put(f"http://{here}/{BUCKET}").raise_for_status()
        environ = {
            "AWS_ENDPOINT_URL_S3": f"http://{proxy.address}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        direct = pafs.S3FileSystem(
            access_key="somebody", secret_key=SECRET, region="us-east-1",
            endpoint_override=f"http://{here}",
        )  # fmt: skip
        yield Store("s3", f"s3://{BUCKET}", proxy, environ, direct)


@contextlib.contextmanager
def gcs() -> Iterator[Store]:
    """fake-gcs-server, written in Go; a LookupError says why there is none."""
    binary = _tool("fake-gcs-server", "fake-gcs-server", "Go")
    port = _free_port()
    with StoreProxy(f"127.0.0.1:{port}") as proxy:
        url = f"http://{proxy.address}"
        command = [
            binary, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
            "-backend", "memory", "-external-url", url, "-public-host", proxy.address,
            "-log-level", "error",
        ]  # fmt: skip
        with _serving(command, port):
            bucket = httpx2.post(f"{url}/storage/v1/b?project=p", json={"name": BUCKET})
            bucket.raise_for_status()
            proxy.forget()
            direct = pafs.GcsFileSystem(
                anonymous=True, endpoint_override=f"127.0.0.1:{port}", scheme="http"
            )
            yield Store("gs", f"gs://{BUCKET}", proxy, {"STORAGE_EMULATOR_HOST": url}, direct)


@contextlib.contextmanager
def azure() -> Iterator[Store]:
    """Azurite's blob service, which runs on Node; a LookupError says why there is none."""
    binary = _tool("node_modules/.bin/azurite-blob", "azurite-blob", "Node.js")
    port = _free_port()
    command = [
        binary, "--blobPort", str(port), "--inMemoryPersistence", "--silent", "--disableTelemetry",
        "--skipApiVersionCheck",
    ]  # fmt: skip
    environ = {**os.environ, "AZURITE_ACCOUNTS": f"{AZURITE_ACCOUNT}:{SECRET}"}
    with StoreProxy(f"127.0.0.1:{port}") as proxy, _serving(command, port, environ):
        here = f"127.0.0.1:{port}"
        direct = pafs.AzureFileSystem(
            account_name=AZURITE_ACCOUNT, account_key=SECRET,
            blob_storage_authority=here, dfs_storage_authority=here,
            blob_storage_scheme="http", dfs_storage_scheme="http",
        )  # fmt: skip
        direct.create_dir(BUCKET)
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={SECRET};"
            f"BlobEndpoint=http://{proxy.address}/{AZURITE_ACCOUNT};"
        )
        environ = {"AZURE_STORAGE_CONNECTION_STRING": connection}
        yield Store("az", f"az://{BUCKET}", proxy, environ, direct)


STORES: Mapping[str, Callable[[], contextlib.AbstractContextManager[Store]]] = {
    "s3": s3,
    "gs": gcs,
    "az": azure,
}


def _tool(below: str, name: str, needs: str) -> str:
    found = shutil.which(name) or str(TOOLS / below)
    if not Path(found).exists():
        raise LookupError(f"{name} is not there: `make test-stores` installs it where {needs} is")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _serving(
    command: list[str], port: int, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ
    )
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert server.poll() is None, f"{command[0]} ended with {server.returncode}"
            assert time.monotonic() < until, f"{command[0]} never listened"
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()

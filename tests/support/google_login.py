"""Application-default credentials whose access tokens come from a server on this machine."""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.server_threads import in_thread

TOKEN = "an-access-token"


class _Handler(http.server.BaseHTTPRequestHandler):
    """Gives the same token to everybody."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        data = json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def credentials(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that is signed in to Google."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    with in_thread(server):
        secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = folder / "credentials.json"
        path.write_text(
            json.dumps(
                {
                    "type": "service_account",
                    "project_id": "p",
                    "private_key_id": "1",
                    "private_key": pem.decode(),
                    "client_email": "somebody@p.iam.gserviceaccount.com",
                    "client_id": "1",
                    "token_uri": f"http://127.0.0.1:{server.server_port}/token",
                }
            )
        )
        yield {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}

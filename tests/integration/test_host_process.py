"""As a library, bulkembed does not change the process that imports it."""

from __future__ import annotations

from support.cli import python

from bulkembed.emulator.server import EmulatorServer

LOOK = """
import asyncio, logging, signal, sys, threading, warnings

import apache_beam, google.genai, h11, httpcore2, httpx2

THEIRS = ("httpcore2", "httpx2", "h11", "google", "apache_beam", "asyncio")

def plain(value):
    return value if isinstance(value, (int, float, str, bytes, tuple)) else id(value)

def look():
    found = {}
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if name.split(".")[0] not in THEIRS:
            continue
        if name in known:
            for key, value in list(vars(module).items()):
                if isinstance(value, type):
                    for attribute, inner in list(vars(value).items()):
                        # pydantic completes its models, and pickle its slots, when they are used.
                        if not attribute.startswith(("_abc", "__pydantic_", "__slotnames__")):
                            found[name, key, attribute] = plain(inner)
    for name in logging.root.manager.loggerDict:
        logger = logging.getLogger(name)
        if name in loggers:
            found["logger", name] = logger.level, logger.disabled, logger.propagate, \
                tuple(map(id, logger.handlers)), tuple(map(id, logger.filters))
    root = logging.getLogger()
    found["root"] = root.level, tuple(root.handlers), logging.raiseExceptions
    found["hooks"] = sys.excepthook, threading.excepthook, sys.unraisablehook
    found["signals"] = [signal.getsignal(number) for number in signal.valid_signals()]
    return found

import apache_beam.ml.inference.base, apache_beam.metrics, google.auth.transport.requests
client = google.genai.Client(api_key="x")
logging.getLogger("httpx2"), logging.getLogger("httpcore2")
known, loggers = set(sys.modules), set(logging.root.manager.loggerDict)
before = look()
"""
USE = """
import bulkembed
for name in bulkembed.__all__:
    getattr(bulkembed, name)
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.tokens import features

async def call():
    service = ServiceConfig(kind=Service.CUSTOM, base_url=sys.argv[1], api_version="v1beta")
    embedding = EmbeddingConfig(service="custom", model="gemini-embedding-001", dim=128)
    client = GeminiClient(service, embedding, "a-key", 2)
    content = TextContent(0, b"", 2, 9, features("a cat"), False, None, "a cat")
    answer = await client.embed([content])
    assert answer.vectors.shape == (1, 128)
    await client.close()

records = []
handler = logging.Handler()
handler.emit = records.append
logging.getLogger("httpx2").addHandler(handler)
logging.getLogger("httpx2").setLevel(logging.INFO)
before["logger", "httpx2"] = look()["logger", "httpx2"]
asyncio.run(call())
after = look()
changed = {key for key in before if after.get(key) != before[key]}
assert not changed, sorted(map(str, changed))
assert not records, [record.getMessage() for record in records]
"""


def test_importing_and_calling_changes_no_class_logger_hook_or_signal(
    server: EmulatorServer,
) -> None:
    ended = python("-c", LOOK + USE, server.url)
    assert ended.code == 0, ended.err

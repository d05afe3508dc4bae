from __future__ import annotations

import html
import json
import logging
import pickle
import urllib.parse

import pytest

from bulkembed.pipeline.logs import JsonLines, PlainLines, printable
from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError, Unavailable
from bulkembed.schemas.secrets import forms_of, masked, remember, without_credentials
from bulkembed.schemas.stop import Stop, StopReason

KEY = "AIzaSy+of/these\\tests=&<1>"
remember(KEY)

FORMS = {
    "plain": KEY,
    "repr": repr(KEY)[1:-1],
    "bytes": repr(KEY.encode())[2:-1],
    "json": json.dumps(KEY)[1:-1],
    "json for pages": "AIzaSy+of/these\\\\tests\\u003d\\u0026\\u003c1\\u003e",
    "url": urllib.parse.quote(KEY, safe=""),
    "form": urllib.parse.quote_plus(KEY),
    "html": html.escape(KEY),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_key_is_masked_however_it_is_escaped(form: str) -> None:
    assert masked(f"Illegal header value b'{form}'") == "Illegal header value b'***'"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_no_error_and_no_reason_to_stop_holds_a_key(form: str) -> None:
    error = Unavailable(f"no answer: {form}", service_message=f"bad {form}")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (one.message, one.service_message) == ("no answer: ***", "bad ***")
        assert form not in repr(one)
    stop = Stop(StopReason.BROKEN, f"please report this: {form}", 0.0)
    assert stop.message == "please report this: ***"


@pytest.mark.parametrize(
    "formatter", [PlainLines("%(message)s"), JsonLines()], ids=["plain", "json"]
)
def test_no_line_of_the_log_holds_a_key_and_no_traceback_either(
    formatter: logging.Formatter,
) -> None:
    try:
        raise ValueError(f"Illegal header value {KEY.encode()!r}")
    except ValueError as error:
        facts = ("x", 1, "said", (KEY, error), (type(error), error, error.__traceback__))
    record = logging.LogRecord("x", 40, "x", 1, "%s %r", facts[3], facts[4])
    line = formatter.format(record)
    assert "ValueError" in line
    assert "***" in line
    assert not [form for form in forms_of(KEY) if form in line]


def test_a_short_key_does_not_mask_other_words() -> None:
    remember("key")
    assert masked("no API key") == "no API key"


def test_control_characters_do_nothing_to_a_terminal() -> None:
    text = "a\x1b[31m\rb\x9b2J\u202ec\ud800\x00"
    assert printable(text) == r"a\x1b[31m\rb\x9b2J\u202ec\ud800\x00"
    assert printable("\u00fcber\t\u4e2d\n\U0001f600") == "\u00fcber\t\u4e2d\n\U0001f600"


@pytest.mark.parametrize(
    "url",
    [
        "user:pass-word@host",
        "u:pass-word@h:80/x",
        "https://u:pass-word@h",
        "http://h/?key=pass-word",
    ],
)
def test_a_base_url_with_credentials_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="--base-url") as caught:
        ServiceConfig(kind=Service.CUSTOM, base_url=url)
    assert "pass-word" not in caught.value.message
    assert "pass-word" not in without_credentials(url)


@pytest.mark.parametrize(
    "url", ["http://host:99999", "http://host:0", "http://host:x", "http://[::1"]
)
def test_an_invalid_port_is_a_usage_error(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a URL"):
        ServiceConfig(kind=Service.CUSTOM, base_url=url)

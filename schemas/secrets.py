"""The secrets that this process knows, and how they are masked in everything it writes.

Every error, every reason to stop and every log line goes through `masked`, so that no key gets
into a terminal, a file or a report.
"""

from __future__ import annotations

import html
import json
import re
import threading
import urllib.parse

MASK = "***"
MIN_LENGTH = 8
"""Shorter secrets are not masked: they are test keys, and occur in other words by chance."""
_forms: tuple[str, ...] = ()
_lock = threading.Lock()
_USER = re.compile(r"(?<=//)[^/\s?#@]+@")


def remember(secret: str | None) -> None:
    """Mask a secret from now on in everything that this process writes."""
    global _forms
    if secret is None or len(secret) < MIN_LENGTH:
        return
    with _lock:
        _forms = tuple(sorted({*_forms, *forms_of(secret)}, key=len, reverse=True))


def masked(text: str) -> str:
    """Return the text with every secret that this process knows masked."""
    for form in _forms:
        text = text.replace(form, MASK)
    return text


def forms_of(secret: str) -> set[str]:
    """Return a secret as it is, and as it is quoted or escaped in Python, JSON, URLs and pages."""
    quoted = json.dumps(secret)[1:-1]
    for char in "&<>='":  # As JSON for pages escapes them.
        quoted = quoted.replace(char, f"\\u{ord(char):04x}")
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quoted,
        html.escape(secret),
        urllib.parse.quote(secret),
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
    }


def without_credentials(uri: str) -> str:
    """Return a URI that may be shown: without a user, a password and a query."""
    shown = _USER.sub(f"{MASK}@", uri)
    if "@" in shown.partition("//")[0]:  # No scheme: everything before the last @ may be secret.
        shown = f"{MASK}@{shown.rpartition('@')[2]}"
    return shown.partition("?")[0]

"""A real browser, headless, and what goes on in one of its pages."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium, with an empty profile; a LookupError where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise LookupError(f"no {', '.join(NAMES)} on PATH: `make test-browser` as root installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclasses.dataclass(frozen=True)
class Seen:
    """A page that was opened, and what went wrong or over the network since."""

    page: Page
    complaints: list[str]
    """Words on the console, errors, and requests that failed."""
    requests: list[str]


@contextlib.contextmanager
def opened(browser: Browser, url: str, width: int, height: int, *, touch: bool) -> Iterator[Seen]:
    """A page in a window of its own."""
    size = ViewportSize(width=width, height=height)
    context = browser.new_context(viewport=size, has_touch=touch, is_mobile=touch)
    seen = Seen(context.new_page(), [], [])
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("requestfailed", lambda request: seen.complaints.append(request.url))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    try:
        seen.page.goto(url)
        yield seen
    finally:
        context.close()

"""The site contains all pages and loads nothing from other hosts."""

from __future__ import annotations

import html.parser
from pathlib import Path

import pytest
from support.cli import python
from support.pages import ROOT

FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


class Fetched(html.parser.HTMLParser):
    """The addresses that a browser loads with a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(FETCHED.get(tag, ""))
        if address:
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = python("-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), cwd=ROOT)
    assert built.code == 0, built.err
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {page.with_suffix(".html").name for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.name for page in site.glob("*.html")}


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    addresses = [address for page in pages for address in Fetched(page).addresses]
    assert len(addresses) > len(pages)
    assert [one for one in addresses if one.startswith(("http:", "https:", "//"))] == []


def test_a_bar_in_a_table_has_no_backslash(site: Path) -> None:
    assert "<code>--format [table|parquet|jsonl|csv]</code>" in (site / "flags.html").read_text()

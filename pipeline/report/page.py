"""A report, written where its dataset is."""

from __future__ import annotations

import datetime as dt
import functools
import textwrap
from collections.abc import Iterator
from importlib import metadata

import jinja2
import pyarrow as pa
import vl_convert
from markupsafe import Markup

from bulkembed.pipeline.report import figures, sample_figures
from bulkembed.pipeline.report.corpus_map import CorpusMap, draw_map
from bulkembed.pipeline.report.facts import ReportFacts, read_facts
from bulkembed.pipeline.report.figures import Spec
from bulkembed.pipeline.report.timeline_points import points_of
from bulkembed.pipeline.run.summary import rows_line
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import find_model
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import REPORT

SHOWN_CHARS = 160
"""Of a message or a text in a table."""


def render(facts: ReportFacts) -> str:
    """The page.  Whatever comes from the dataset is escaped: texts may hold markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["shorten"] = shorten
    drawn = draw_map(facts.sample, facts.texts) if facts.sample else None
    specs = {**dict(_figures(facts)), **dict(_sample_figures(facts, drawn))}
    return environment.get_template("page.html").render(
        facts=facts,
        status=facts.status,
        tiles=list(_tiles(facts)),
        rows_line=rows_line(facts.status.rows),
        cost_line=_cost_line(facts),
        map=drawn,
        sample_line=_sample_line(facts),
        lengths_line=_lengths_line(facts),
        palette=sample_figures.PALETTE,
        figures=specs,
        figure=_place,
        library=Markup(_library()),
        version=metadata.version("bulkembed"),
        now=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def shorten(text: object, most: int = SHOWN_CHARS) -> str:
    """A text on one line, cut at a word; nothing for None."""
    line = " ".join(str("" if text is None else text).split())
    return textwrap.shorten(line, most, placeholder=" ...") if " " in line else line[:most]


def _place(name: str) -> Markup:
    return Markup('<div class="figure" id="figure-{}"></div>').format(name)


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script; their authors close no tag within it."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )


def _figures(facts: ReportFacts) -> Iterator[tuple[str, Spec]]:
    yield "fates", figures.fates(facts.status)
    yield "cost", figures.cost(facts.cost)
    if facts.status.codes:
        yield "dead_codes", figures.dead_codes(facts.status.codes)
    if facts.timeline is None:
        return
    points = points_of(facts.timeline.timeline)
    yield "rate", figures.rate(points, facts.timeline.rpm_counts, facts.timeline.rpm)
    yield "tokens", figures.rate(points, "tokens", facts.timeline.tpm)
    yield "latency", figures.latency(points)
    if any(point.retried or point.refused or point.failed for point in points):
        yield "troubles", figures.troubles(points)


def _sample_figures(facts: ReportFacts, drawn: CorpusMap | None) -> Iterator[tuple[str, Spec]]:
    if drawn is not None:
        yield "map", sample_figures.corpus_map(drawn)
    if facts.sample is not None and any(facts.texts):
        most = find_model(facts.status.model).max_tokens
        yield "lengths", sample_figures.lengths(facts.sample.rows, facts.texts, most)


def _tiles(facts: ReportFacts) -> Iterator[tuple[str, str]]:
    rows, counts = facts.status.rows, facts.status.counts
    yield "rows in", f"{rows.rows_in:,}"
    yield "embedded", f"{rows.embedded:,}"
    if facts.status.vectors != rows.embedded:
        yield "passages", f"{facts.status.vectors:,}"
    yield "dead letters", f"{rows.dead:,}"
    yield "left to do", f"{rows.left:,}"
    yield "texts sent", f"{counts.texts:,}"
    yield "tokens sent", f"{counts.tokens:,}"
    if facts.status.usd is not None:
        yield "USD, about", f"{facts.status.usd:,.2f}"


def _cost_line(facts: ReportFacts) -> str:
    cost, counts = facts.cost, facts.status.counts
    line = f"{cost.tokens:,} tokens sent"
    if counts.repeated:
        line += f", about {cost.spared:,} spared: {counts.repeated:,} rows repeat another's text"
    paid, spared = cost.usd(cost.tokens), cost.usd(cost.spared)
    if cost.price is None or paid is None or spared is None:
        return line + "."
    at = f"At {cost.price.online:g} USD for a million tokens"
    return f"{line}. {at}: {paid:,.4f} USD, not {paid + spared:,.4f}."


def _sample_line(facts: ReportFacts) -> str:
    sample = facts.sample
    if sample is None:
        return "No row could be read."
    line = f"{len(sample.rows):,} of {sample.rows_of:,} rows that have a vector"
    if sample.parts < sample.parts_of:
        line += f", from {sample.parts:,} of {sample.parts_of:,} parts"
    found = sum(text is not None for text in facts.texts)
    if found < len(sample.rows):
        line += f"; the texts of {found:,} are found"
    return line


def _lengths_line(facts: ReportFacts) -> str:
    known = sorted(text.tokens for text in facts.texts if text is not None)
    if facts.sample is None or not known:
        return ""
    half, most = (known[round(part * (len(known) - 1))] for part in (0.5, 0.95))
    line = f"Half of them have at most {half:,} tokens, 95 % at most {most:,}"
    told = [row.truncated for row in facts.sample.rows if row.truncated is not None]
    if told:
        line += f"; the service cut {sum(told):,} of {len(told):,} of which it is known"
    return f"{line}. Tokens are estimated from the characters."


EXTRA = "bulkembed[report]"


def write_report(output: str) -> str:
    """Writes the page of the dataset at a path or URI, over an older one; gives its place.

    Raises:
        ConfigError: there is no dataset, or the libraries that draw are not installed.
        OutputError: the dataset cannot be read, or the page not be written.
    """
    # Arrow keeps what it has freed: here what a run has read, and then what is read here.
    pool = pa.default_memory_pool()
    pool.release_unused()
    facts = read_facts(output)
    pool.release_unused()
    try:
        pass

        page = render(facts)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a report needs {error.name}, which is not installed: pip install '{EXTRA}'"
        ) from None
    dataset = Dataset.open(output)
    dataset.write(REPORT, page.encode())
    dataset.move_old_report()
    return f"{output.rstrip('/')}/{REPORT}"

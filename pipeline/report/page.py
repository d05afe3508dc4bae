"""The page of a report, written into its dataset."""

from __future__ import annotations

import datetime as dt
import functools
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata

import altair as alt
import jinja2
import pyarrow as pa
import vl_convert
from markupsafe import Markup

from bulkembed.pipeline.report import figures
from bulkembed.pipeline.report.corpus_map import CorpusMap, draw_map
from bulkembed.pipeline.report.facts import ReportFacts, read_facts
from bulkembed.pipeline.report.figures import Spec, points_of
from bulkembed.pipeline.report.usage import Usage
from bulkembed.pipeline.run.summary import WrittenReport, cost_lines, rows_line
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.models import find_model
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import REPORT

LIBRARY_S = 60
"""How long the process that makes the library of the charts may take."""
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
MAKE_LIBRARY = (
    "import sys, vl_convert\n"
    f"sys.stdout.buffer.write(vl_convert.javascript_bundle({_SNIPPET!r}).encode())"
)
SHOWN_CHARS = 160
"""Characters of a message or a text in a table."""


def render(facts: ReportFacts) -> str:
    """Return the page. Values from the dataset are escaped, because texts may hold markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bulkembed.pipeline.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["shorten"] = shorten
    environment.filters["data_uri"] = figures.data_uri
    drawn = draw_map(facts.sample, facts.texts) if facts.sample else None
    # Altair would check each piece of a chart as it is made; a test checks the whole charts.
    with alt.utils.schemapi.debug_mode(False):
        specs = {**dict(_figures(facts)), **dict(_sample_figures(facts, drawn))}
    return environment.get_template("page.html").render(
        facts=facts,
        status=facts.status,
        tiles=list(_tiles(facts)),
        rows_line=rows_line(facts.status.rows),
        cost_line=_cost_line(facts),
        life_line=_life_line(facts),
        map=drawn,
        sample_line=_sample_line(facts),
        lengths_line=_lengths_line(facts),
        palette=figures.PALETTE,
        figures=specs,
        figure=_place,
        library=Markup(_library()),
        version=metadata.version("bulkembed"),
        now=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def shorten(text: object, chars: int = SHOWN_CHARS) -> str:
    """Return a text on one line, cut at a word; "" for None."""
    line = " ".join(str("" if text is None else text).split())
    return textwrap.shorten(line, chars, placeholder=" ...") if " " in line else line[:chars]


def _place(name: str) -> Markup:
    return Markup('<div class="figure" id="figure-{}"></div>').format(name)


@functools.cache
def _library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script.

    A process of its own makes it: the JavaScript engine would keep 80 MB until the run ends.
    """
    try:
        made = subprocess.run(
            [sys.executable, "-I", "-c", MAKE_LIBRARY],
            check=True, capture_output=True, encoding="utf-8", timeout=LIBRARY_S,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeError):
        made = ""
    if "vegaEmbed" not in made:  # This process may not be Python's own program.
        made = str(vl_convert.javascript_bundle(_SNIPPET))
    return made.replace("</script", "<\\/script")


def _figures(facts: ReportFacts) -> Iterator[tuple[str, Spec]]:
    yield "rows", figures.rows_chart(facts.status)
    yield "cost", figures.cost_chart(facts.cost, facts.status.cost.content_noun)
    if facts.status.codes:
        yield "dead_letters", figures.dead_letters_chart(facts.status.codes)
    if facts.timeline is None:
        return
    points = points_of(facts.timeline.timeline)
    noun, timeline = facts.status.cost.content_noun, facts.timeline
    yield "rate", figures.rate_chart(points, timeline.rpm_counts, timeline.rpm, noun)
    yield "tokens", figures.rate_chart(points, "tokens", facts.timeline.tpm)
    yield "latency", figures.latency_chart(points)
    if any(point.retried or point.rate_limited or point.failed for point in points):
        yield "problems", figures.problems_chart(points)


def _sample_figures(facts: ReportFacts, drawn: CorpusMap | None) -> Iterator[tuple[str, Spec]]:
    if drawn is not None:
        yield "map", figures.map_chart(drawn)
    if facts.sample is not None and any(facts.texts):
        max_tokens = find_model(facts.status.model).max_tokens
        yield "lengths", figures.lengths_chart(facts.sample.rows, facts.texts, max_tokens)


def _tiles(facts: ReportFacts) -> Iterator[tuple[str, str]]:
    rows = facts.status.rows
    yield "input rows", f"{rows.rows_in:,}"
    yield "embedded", f"{rows.embedded:,}"
    kept = facts.status.kept
    if kept.rows_in:
        yield "rows of missing files", f"{kept.rows_in:,}"
    if facts.status.vectors != rows.embedded + kept.embedded:
        yield "passages", f"{facts.status.vectors:,}"
    yield "failed", f"{rows.dead:,}"
    yield "remaining", f"{rows.left:,}"
    yield f"{facts.status.cost.content_noun}s sent", f"{facts.cost.texts:,}"
    cost = facts.status.cost
    yield "tokens in all runs", f"{cost.tokens:,}"
    if cost.usd is not None:
        yield "USD in all runs", f"{cost.usd:,.2f}"


def _cost_line(facts: ReportFacts) -> str:
    cost = facts.cost
    line = f"{cost.online_tokens:,} tokens sent for the committed rows"
    if facts.batch is not None:
        line += f", {cost.batch_tokens:,} in batch jobs"
    if cost.duplicates:
        duplicates = number_of(cost.duplicates, "duplicate row")
        line += f", about {cost.saved:,} saved by deduplication ({duplicates})"
    paid, saved = cost.usd(cost.tokens), cost.usd(cost.saved)
    if cost.price is None or paid is None or saved is None:
        return line + "."
    at = f"{cost.price.online:g} USD per million tokens"
    if facts.batch is not None:
        at += f", {cost.price.batch:g} USD in batch jobs,"
    line += f". At {at} that is {paid:,.4f} USD"
    return f"{line}, instead of {paid + saved:,.4f} USD." if saved else f"{line}."


def _life_line(facts: ReportFacts) -> str:
    """Return what all runs have cost, with what is not certain or not committed."""
    status = facts.status
    lines = [
        text
        for _, text in cost_lines(status.cost, "the last run that sent requests", status.kept_texts)
    ]
    return ". ".join(f"{line[0].upper()}{line[1:]}" for line in lines) + "."


def _sample_line(facts: ReportFacts) -> str:
    sample = facts.sample
    if sample is None:
        return "No row could be read"
    line = f"{len(sample.rows):,} of {number_of(sample.rows_of, 'row')} with a vector"
    if sample.parts < sample.parts_of:
        line += f", from {sample.parts:,} of {number_of(sample.parts_of, 'part')}"
    found = sum(text is not None for text in facts.texts)
    if any(row.media for row in sample.rows):
        images = sum(row.thumbnail is not None for row in sample.rows)
        line += f". Images available: {images:,}"
    elif found < len(sample.rows) and facts.shows_texts:
        line += f". Texts available: {found:,}"
    return line


def _lengths_line(facts: ReportFacts) -> str:
    known = sorted(text.tokens for text in facts.texts if text is not None)
    if facts.sample is None or not known:
        return ""
    median, p95 = (known[round(part * (len(known) - 1))] for part in (0.5, 0.95))
    line = f"Half of the texts have at most {median:,} tokens, 95 % at most {p95:,}."
    reported = [row.truncated for row in facts.sample.rows if row.truncated is not None]
    if reported:
        line += f" The service truncated {sum(reported):,} of {number_of(len(reported), 'text')}."
    return f"{line} Tokens are estimated from the characters."


def write_report(output: str, *, texts: bool) -> WrittenReport:
    """Write the page of the dataset at a path or URI.

    Args:
        output: the dataset.
        texts: whether the page shows excerpts of texts.

    Raises:
        ConfigError: there is no dataset.
        ModuleNotFoundError: a package of the extra `report` is not installed.
        OutputError: the dataset cannot be read, or the page cannot be written.
    """
    # Arrow keeps the memory that it has freed, of the run before and of the reading here.
    pool = pa.default_memory_pool()
    pool.release_unused()
    usage = Usage()
    _library()  # Before the sample is in memory.
    facts = read_facts(output, texts=texts)
    pool.release_unused()
    page = render(facts)
    dataset = Dataset.open(output)
    dataset.write(REPORT, page.encode())
    dataset.move_old_report()
    place = f"{output.rstrip('/')}/{REPORT}"
    return WrittenReport(place, usage.seconds, usage.memory_bytes, texts)

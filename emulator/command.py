"""`bulkembed emulator`: the local server on the command line."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from bulkembed.emulator.batch_options import batch_options, batch_settings
from bulkembed.emulator.media_options import media_options, media_rules
from bulkembed.emulator.media_rules import TokenDetails, VertexBatch
from bulkembed.emulator.settings import EmulatorSettings, Fault, OverLimit, QuotaDetails
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import MAX_BODY_BYTES, MAX_TEXTS, PREDICT_TEXTS, PREDICT_TOKENS

_F = TypeVar("_F", bound=Callable[..., Any])
_NEEDED = ("safetensors", "starlette", "tokenizers", "uvicorn", "wordllama")
_FAULT_OPTIONS = {
    Fault.TOO_MANY: "share_429",
    Fault.INTERNAL: "share_500",
    Fault.UNAVAILABLE: "share_503",
    Fault.DEADLINE: "share_504",
    Fault.RESET: "share_reset",
    Fault.HANG: "share_hang",
    Fault.SHORT: "share_short",
    Fault.WRONG_DIM: "share_wrong_dim",
    Fault.NULL: "share_null",
    Fault.NAN: "share_nan",
    Fault.BROKEN_JSON: "share_broken_json",
}


def _number_option(name: str, default: float, text: str) -> Callable[[_F], _F]:
    kind = int if isinstance(default, int) else float
    return click.option(name, type=kind, default=default, show_default=True, help=text)


def _share_options(command: _F) -> _F:
    for fault, name in reversed(_FAULT_OPTIONS.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(
            flag, type=float, default=0.0, help=f"Share of calls with the fault {fault}, 0 to 1."
        )(command)
    return command


@click.command(
    context_settings={"max_content_width": 100},
    epilog="Example: bulkembed emulator --port 8080 --rpm 3000. Then use it with: bulkembed run "
    "... --base-url http://127.0.0.1:8080",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@_number_option("--port", 0, "Port to listen on; 0: any free one.")
@click.option(
    "--as", "found", metavar="FILE",
    help="Behave like the service that `bulkembed check --json FILE` was run against. Other "
    "options take precedence over the file.",
)  # fmt: skip
@click.option("--api-key", help="Accept this key only. [default: any key]")
@click.option(
    "--retired",
    multiple=True,
    metavar="MODEL",
    help='Answer 404 for this model; "all": for every model past its shut-down date.',
)
@click.option(
    "--extra-model", multiple=True, metavar="NAME:DIM", help="Serve a model with this name and dim."
)
@click.option(
    "--long-text",
    type=click.Choice([one.value for one in OverLimit]),
    default=OverLimit.TRUNCATE.value,
    show_default=True,
    help="What a model with prefixes does with a text over its limit.",
)
@click.option(
    "--usage-metadata/--no-usage-metadata", default=True, help="Include token counts in answers."
)
@click.option(
    "--token-details",
    type=click.Choice([one.value for one in TokenDetails]),
    default=TokenDetails.BY_SERVICE.value,
    show_default=True,
    help="The name of the field with the tokens by modality.",
)
@_number_option("--max-texts", MAX_TEXTS, "Maximum texts of a batch on the Developer API.")
@_number_option("--max-body-bytes", MAX_BODY_BYTES, "Maximum bytes of a body without media.")
@click.option(
    "--vertex-batch",
    type=click.Choice([one.value for one in VertexBatch]),
    default=VertexBatch.SERVE.value,
    show_default=True,
    help="What batchEmbedContents does on Vertex AI: it may answer 404, as JSON or as a page.",
)
@_number_option("--vertex-batch-texts", MAX_TEXTS, "Maximum texts of a batch on Vertex AI.")
@_number_option("--vertex-predict-texts", PREDICT_TEXTS, "Maximum texts of a predict.")
@_number_option("--vertex-predict-tokens", PREDICT_TOKENS, "Maximum tokens of a predict.")
@_number_option("--rpm", 0, "Texts per minute; 0: no limit.")
@_number_option("--tpm", 0, "Tokens per minute; 0: no limit.")
@_number_option("--rpd", 0, "Texts per day (until midnight, Pacific time); 0: no limit.")
@click.option("--rpm-counts-calls", is_flag=True, help="Count requests instead of texts.")
@click.option("--no-access", is_flag=True, help="Answer every call with 429, quotaValue 0.")
@click.option("--charge-failed", is_flag=True, help="Let failed calls use quota.")
@click.option("--free-tier", is_flag=True, help="Name the free tier's quotas in a 429.")
@click.option(
    "--quota-details",
    type=click.Choice([one.value for one in QuotaDetails]),
    default=QuotaDetails.FULL.value,
    show_default=True,
    help="How many details a 429 has.",
)
@_number_option("--clock-offset-s", 0.0, "Seconds by which the quota's clock is ahead.")
@_number_option("--latency-ms", 0.0, "Mean latency of a call.")
@_number_option("--jitter-ms", 0.0, "The latency varies by up to this much.")
@_number_option("--slow-share", 0.0, "Share of calls that take --slow-ms longer, 0 to 1.")
@_number_option("--slow-ms", 2000.0, "Additional latency of slow calls.")
@_share_options
@click.option(
    "--script",
    metavar="FAULT,FAULT,...",
    default="",
    help="Answers to the first calls, in order: ok, a fault as above, an HTTP status, or "
    "page-STATUS for an HTML page, e.g. 503,ok,reset,499,page-403.",
)
@click.option(
    "--outage",
    multiple=True,
    metavar="FROM-UNTIL",
    help="Answer 503 between these seconds after the start, e.g. 30-60.",
)
@click.option("--poison", help="Answer 400 to a call with a text or file that contains this.")
@click.option("--sick", help="Answer 503 to a call with a text or file that contains this.")
@_number_option("--seed", 0, "Seed of faults and latencies.")
@click.option("--pretty", is_flag=True, help="Indent answers even for prettyPrint=false.")
@click.option(
    "--gzip/--no-gzip",
    default=True,
    show_default=True,
    help="Compress answers for clients that accept gzip.",
)
@click.option(
    "--unknown-parameter",
    multiple=True,
    metavar="NAME",
    help="Answer 400 to a request with this query parameter, such as prettyPrint.",
)
@click.option("--canned", is_flag=True, help="Send prepared answers, to measure clients.")
@media_options
@batch_options
def emulator(**options: Any) -> None:
    """Serve the Gemini embedding API on this machine, without a key.

    Point a client at the URL that is printed. The vectors reflect word overlap, not meaning.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the emulator needs {', '.join(missing)}. Run pip install 'bulkembed[emulator]'."
        )
    settings = settings_from(options)
    # One thread per matrix product: more would take the cores that the client needs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from bulkembed.emulator.server import serve_forever

    serve_forever(settings, lambda url: click.echo(f"emulator listening on {url}"))


def settings_from(options: dict[str, Any]) -> EmulatorSettings:
    """Return the settings of the command's options."""
    options = dict(options)
    found = options.pop("found")
    shares = [(fault, options.pop(name)) for fault, name in _FAULT_OPTIONS.items()]
    script = [step.strip() for step in options.pop("script").split(",")]
    settings = EmulatorSettings(
        faults=tuple((fault, share) for fault, share in shares if share),
        script=tuple(step for step in script if step),
        outages=tuple(map(_outage, options.pop("outage"))),
        unknown_parameters=tuple(options.pop("unknown_parameter")),
        extra_models=tuple(map(_extra_model, options.pop("extra_model"))),
        long_text=OverLimit(options.pop("long_text")),
        token_details=TokenDetails(options.pop("token_details")),
        vertex_batch=VertexBatch(options.pop("vertex_batch")),
        quota_details=QuotaDetails(options.pop("quota_details")),
        media=media_rules(options),
        batch=batch_settings(options),
        **options,
    )
    if found is None:
        return settings
    from bulkembed.emulator.found_service import as_found, read_facts

    return as_found(settings, read_facts(found))


def _outage(text: str) -> tuple[float, float]:
    try:
        start_s, end_s = map(float, text.split("-"))
    except ValueError:
        raise ConfigError(f"--outage {text}: use FROM-UNTIL in seconds, such as 30-60") from None
    return start_s, end_s


def _extra_model(text: str) -> tuple[str, int]:
    name, _, dim = text.rpartition(":")
    if not dim.isdecimal():
        raise ConfigError(f"--extra-model {text}: use NAME:DIM, such as my-model:512")
    return name, int(dim)

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from bulkembed.emulator.command import emulator, settings_from
from bulkembed.emulator.faults import Faults
from bulkembed.emulator.media_rules import MediaRules, TokenDetails, VertexBatch
from bulkembed.emulator.settings import EmulatorSettings, Fault
from bulkembed.schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"rpm": -1}, "--rpm -1", id="negative-limit"),
        pytest.param({"max_texts": 0}, "--max-texts 0", id="no-texts"),
        pytest.param({"port": 70_000}, "--port 70000", id="no-such-port"),
        pytest.param({"faults": ((Fault.RESET, 1.5),)}, "share of reset", id="share-above-one"),
        pytest.param(
            {"faults": ((Fault.RESET, 0.6), (Fault.HANG, 0.6))}, "add up to 1.2", id="shares"
        ),
        pytest.param({"script": ("503", "flood")}, "--script flood", id="unknown-fault"),
        pytest.param({"outages": ((60.0, 30.0),)}, "--outage 60-30", id="outage-backwards"),
        pytest.param({"extra_models": (("a:b", 5),)}, "--extra-model", id="model-with-colon"),
        pytest.param({"api_key": ""}, "empty --api-key", id="empty-key"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EmulatorSettings(**settings)


@pytest.mark.parametrize(
    "media", [{"images": 0}, {"body_status": 500}, {"call_images": -1}, {"audio_seconds": 0.5}]
)
def test_invalid_limits_of_media_are_errors(media: dict[str, Any]) -> None:
    (name,) = media
    with pytest.raises(ConfigError, match=f"--media-{name.replace('_', '-')}"):
        MediaRules(**media)


def test_the_key_is_not_shown_in_the_settings() -> None:
    assert "sesame" not in repr(EmulatorSettings(api_key="sesame"))


def test_the_commands_options_become_settings() -> None:
    line = (
        "--rpm 3000 --share-503 0.1 --share-reset 0.05 --script 503,ok --outage 30-60 "
        "--outage 90-91.5 --extra-model mine:512 --retired all --quota-details none --pretty "
        "--media-images 2 --media-cut-long --no-media-developer-gs --vertex-batch missing "
        "--token-details both --no-gzip --unknown-parameter prettyPrint"
    )
    with emulator.make_context("emulator", line.split()) as context:
        settings = settings_from(context.params)
    assert settings.rpm == 3000
    assert dict(settings.faults) == {Fault.UNAVAILABLE: 0.1, Fault.RESET: 0.05}
    assert settings.script == ("503", "ok")
    assert settings.outages == ((30, 60), (90, 91.5))
    assert settings.extra_models == (("mine", 512),)
    assert settings.retired == ("all",)
    assert settings.pretty
    assert not settings.gzip
    assert settings.unknown_parameters == ("prettyPrint",)
    assert settings.media == MediaRules(images=2, cut_long=True, developer_gs=False)
    assert settings.vertex_batch is VertexBatch.MISSING
    assert settings.token_details is TokenDetails.BOTH


def test_the_commands_defaults_are_the_settings_defaults() -> None:
    with emulator.make_context("emulator", []) as context:
        assert settings_from(context.params) == EmulatorSettings()


@pytest.mark.parametrize("option", ["--outage=soon", "--extra-model=mine"])
def test_the_error_for_an_invalid_option_names_it(option: str) -> None:
    result = CliRunner().invoke(emulator, [option])
    assert isinstance(result.exception, ConfigError)
    assert option.partition("=")[0] in str(result.exception)


def test_faults_occur_by_their_shares_and_repeat_for_a_seed() -> None:
    settings = EmulatorSettings(
        faults=((Fault.UNAVAILABLE, 0.2), (Fault.RESET, 0.1)), seed=7, script=("ok", "hang")
    )
    first, again = Faults(settings, 0), Faults(settings, 0)
    many = [first.draw(0) for _ in range(5000)]
    assert many == [again.draw(0) for _ in range(5000)]
    assert many[1] is Fault.HANG
    assert 900 < many.count(Fault.UNAVAILABLE) < 1100
    assert 420 < many.count(Fault.RESET) < 580


def test_an_outage_lasts_between_its_seconds() -> None:
    faults = Faults(EmulatorSettings(outages=((30, 60),)), start=1000)
    assert [faults.draw(1000 + at) for at in (0, 29.9, 30, 59.9, 60)] == [
        None, None, Fault.UNAVAILABLE, Fault.UNAVAILABLE, None,
    ]  # fmt: skip


def test_latencies_follow_mean_jitter_and_slow_share() -> None:
    faults = Faults(
        EmulatorSettings(latency_ms=300, jitter_ms=100, slow_share=0.1, slow_ms=2000), 0
    )
    drawn = [faults.latency_s() for _ in range(2000)]
    usual = [one for one in drawn if one < 1]
    assert 0.2 <= min(usual) < 0.21
    assert 0.39 < max(usual) <= 0.4
    assert 140 < len(drawn) - len(usual) < 260
    assert max(drawn) <= 2.4

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.certificates import own_certificate
from support.web_pages import Exchange, Page, serving

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.clients.transport import CERTIFICATE_VARIABLES
from bulkembed.transforms.inputs.filesystems import Location
from bulkembed.transforms.media import addresses
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.media.media_refs import MediaRef

DATA = bytes(range(256)) * 40
LOCAL = FetchSettings(
    timeout_s=5, connect_timeout_s=2, max_bytes=1_000_000, allow_private_addresses=True
)


@contextlib.contextmanager
def fetcher(settings: FetchSettings = LOCAL, **changes: Any) -> Iterator[MediaFetcher]:
    opened = MediaFetcher(dataclasses.replace(settings, **changes))
    try:
        yield opened
    finally:
        opened.close()


def fault(uri: str, settings: FetchSettings = LOCAL, **changes: Any) -> MediaFault:
    with fetcher(settings, **changes) as opened, pytest.raises(MediaFault) as caught:
        opened.fetch(MediaRef(uri=uri))
    return caught.value


def fine(exchange: Exchange) -> None:
    exchange.answer(200, DATA)


def status(code: int, **headers: str) -> Page:
    return lambda exchange: exchange.answer(code, b"sorry", **headers)


def redirect(target: str, code: int = 302) -> Page:
    return lambda exchange: exchange.answer(code, Location=target)


def in_turn(*pages: Page) -> Page:
    """Answer each request with the next page, and then always with the last one."""
    following = itertools.chain(pages, itertools.repeat(pages[-1]))
    return lambda exchange: next(following)(exchange)


def test_a_page_is_fetched_whatever_it_holds() -> None:
    html = b"<!doctype html><p>Sign in, please."
    pages = {"/a.jpg": fine, "/page.jpg": lambda exchange: exchange.answer(200, html)}
    with serving(pages) as server, fetcher() as opened:
        assert opened.fetch(MediaRef(uri=f"{server.url}/a.jpg")) == DATA
        assert opened.fetch(MediaRef(uri=f"{server.url}/page.jpg")) == html


def test_a_url_with_spaces_and_other_letters_is_quoted() -> None:
    with serving({"/bl%C3%A5%20hus.jpg": fine}) as server, fetcher() as opened:
        assert opened.fetch(MediaRef(uri=f"{server.url}/blå hus.jpg")) == DATA


@pytest.mark.parametrize(
    ("code", "dead"),
    [
        (404, DeadCode.NOT_FOUND),
        (410, DeadCode.NOT_FOUND),
        (401, DeadCode.FORBIDDEN),
        (403, DeadCode.FORBIDDEN),
        (400, DeadCode.FETCH_FAILED),
        (418, DeadCode.FETCH_FAILED),
        (304, DeadCode.FETCH_FAILED),
        (599, DeadCode.FETCH_FAILED),
    ],
)
def test_a_status_is_a_fault_that_names_it(code: int, dead: DeadCode) -> None:
    with serving({"/a": status(code)}) as server:
        found = fault(f"{server.url}/a", attempts=1)
        assert found.code is dead
        assert str(code) in found.what
        assert found.what.startswith(f"{server.url}/a: ")


@pytest.mark.parametrize(
    ("page", "times"),
    [
        pytest.param(status(404), 1, id="404"),
        pytest.param(status(403), 1, id="403"),
        pytest.param(status(429), 3, id="429"),
        pytest.param(status(503), 3, id="503"),
        pytest.param(Exchange.reset, 3, id="reset"),
    ],
)
def test_only_what_may_pass_is_retried(page: Page, times: int) -> None:
    with serving({"/a": page}) as server:
        fault(f"{server.url}/a")
        assert server.asked["/a"] == times


@pytest.mark.parametrize("first", [status(503), status(429), Exchange.reset])
def test_a_failure_that_passes_is_none(first: Page) -> None:
    with serving({"/a": in_turn(first, first, fine)}) as server, fetcher() as opened:
        assert opened.fetch(MediaRef(uri=f"{server.url}/a")) == DATA


def test_what_an_attempt_has_received_is_not_kept_for_the_next_one() -> None:
    def cut_off(exchange: Exchange) -> None:
        exchange.answer(200, DATA[:100], Content_Length=str(len(DATA)))
        exchange.close_connection = True

    with serving({"/a": in_turn(cut_off, fine)}) as server, fetcher() as opened:
        assert opened.fetch(MediaRef(uri=f"{server.url}/a")) == DATA
    with serving({"/a": cut_off}) as server:
        assert fault(f"{server.url}/a", attempts=1).code is DeadCode.FETCH_FAILED


def in_date(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize("form", [lambda: "1", lambda: in_date(2)])
def test_the_whole_host_waits_as_long_as_it_asks_for(form: Any) -> None:
    at: list[float] = []

    def busy(exchange: Exchange) -> None:
        at.append(time.monotonic())
        exchange.answer(429, Retry_After=form())

    def noted(exchange: Exchange) -> None:
        at.append(time.monotonic())
        exchange.answer(200, DATA)

    with serving({"/a": in_turn(busy, noted), "/b": noted}) as server:
        refs = [MediaRef(uri=f"{server.url}/{name}") for name in "ab"]
        with fetcher(per_host=1) as opened:
            assert list(opened.fetch_ahead(refs)) == [DATA, DATA]
    assert at[1] - at[0] > 0.9


def test_a_host_that_asks_for_an_hour_is_not_waited_for() -> None:
    with serving({"/a": status(429, Retry_After="3600")}) as server:
        found = fault(f"{server.url}/a")
        assert server.asked["/a"] == 1
    assert found.code is DeadCode.FETCH_FAILED
    assert "3,600 s" in found.what


def test_a_slow_host_costs_one_row_and_the_time_of_its_attempts() -> None:
    ended = threading.Event()

    def slow(exchange: Exchange) -> None:
        ended.wait(20)

    def dripping_body(exchange: Exchange) -> None:
        exchange.answer(200, b"", Content_Length="1000")
        while not ended.wait(0.05):
            exchange.wfile.write(b"x")

    def dripping_headers(exchange: Exchange) -> None:
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not ended.wait(0.05):
            exchange.wfile.write(b"x")

    pages = {"/1": slow, "/2": dripping_body, "/3": dripping_headers, "/4": fine}
    begin = time.monotonic()
    with serving(pages) as server, fetcher(timeout_s=0.5, attempts=1) as opened:
        refs = [MediaRef(uri=f"{server.url}/{number}") for number in range(1, 5)]
        *slow_ones, last = opened.fetch_ahead(refs)
        ended.set()
    assert time.monotonic() - begin < 5
    assert last == DATA
    for one in slow_ones:
        assert isinstance(one, MediaFault)
        assert one.code is DeadCode.FETCH_FAILED
        assert "within 0.5 s" in one.what


def test_an_endless_body_is_not_read_to_its_end() -> None:
    sent = 0

    def endless(exchange: Exchange) -> None:
        nonlocal sent
        exchange.send_response(200)
        exchange.end_headers()
        while True:
            sent += exchange.wfile.write(bytes(65536))

    with serving({"/a": endless}) as server:
        found = fault(f"{server.url}/a", max_bytes=1_000_000)
        assert server.asked["/a"] == 1
    assert found.code is DeadCode.TOO_LARGE
    assert "1,000,000" in found.what
    assert sent < 50_000_000


def test_a_body_that_says_it_is_too_large_is_not_read_at_all() -> None:
    def huge(exchange: Exchange) -> None:
        exchange.answer(200, b"", Content_Length="2000000")

    with serving({"/a": huge}) as server:
        found = fault(f"{server.url}/a", max_bytes=1_000_000)
    assert found.code is DeadCode.TOO_LARGE
    assert "2,000,000" in found.what


def test_a_body_that_is_longer_than_it_says_ends_where_it_says() -> None:
    def longer(exchange: Exchange) -> None:
        exchange.answer(200, DATA, Content_Length="100")
        exchange.close_connection = True

    with serving({"/a": longer}) as server, fetcher() as opened:
        assert opened.fetch(MediaRef(uri=f"{server.url}/a")) == DATA[:100]


def test_a_compressed_body_is_decompressed_up_to_the_limit() -> None:
    def packed(data: bytes) -> Page:
        return lambda exchange: exchange.answer(200, gzip.compress(data), Content_Encoding="gzip")

    with serving({"/a": packed(DATA), "/bomb": packed(bytes(5_000_000))}) as server:
        with fetcher() as opened:
            assert opened.fetch(MediaRef(uri=f"{server.url}/a")) == DATA
        assert fault(f"{server.url}/bomb").code is DeadCode.TOO_LARGE


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_to_another_host(code: int) -> None:
    with serving({"/b": fine}, "127.0.0.2") as other:
        pages = {"/a": redirect("/a2", code), "/a2": redirect(f"{other.url}/b")}
        with serving(pages) as server, fetcher() as opened:
            assert opened.fetch(MediaRef(uri=f"{server.url}/a")) == DATA


def test_five_redirects_are_followed_and_a_loop_ends() -> None:
    pages = {f"/{number}": redirect(f"/{number + 1}") for number in range(6)} | {"/6": fine}
    pages["/loop"] = redirect("/loop")
    with serving(pages) as server:
        with fetcher() as opened:
            assert opened.fetch(MediaRef(uri=f"{server.url}/1")) == DATA
        for path in ("/0", "/loop"):
            found = fault(f"{server.url}{path}")
            assert found.code is DeadCode.FETCH_FAILED
            assert "5 redirects" in found.what
        assert server.asked["/loop"] == 6


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://example.com/a", "http://", "http://h:port/a", "javascript:1"],
)
def test_a_redirect_leads_to_web_pages_only(target: str) -> None:
    with serving({"/a": redirect(target)}) as server:
        found = fault(f"{server.url}/a")
    assert found.code is DeadCode.FETCH_FAILED
    assert "redirects" in found.what


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
def test_a_private_address_is_not_asked_however_it_is_written(host: str) -> None:
    with serving({"/a": fine}) as server:
        found = fault(f"http://{host}:{server.server_address[1]}/a", allow_private_addresses=False)
        assert not server.asked
    assert found.code is DeadCode.FORBIDDEN
    assert "--allow-private-addresses" in found.what


class PublicHost:
    """A name with a public address, behind which there is a server of this machine.

    Only the resolver and the dialling of that address are replaced, below our code.
    """

    ADDRESS = "93.184.215.14"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *later: str) -> None:
        self.resolved = 0
        self.dialled: list[str] = []
        answers = itertools.chain([self.ADDRESS], later or itertools.repeat(self.ADDRESS))
        resolve, connect = socket.getaddrinfo, anyio.connect_tcp

        def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            if host != "public.example":
                return resolve(host, port, *args, **options)
            self.resolved += 1
            return resolve(next(answers), port, *args, **options)

        async def connect_tcp(remote_host: str, remote_port: int, **options: Any) -> Any:
            self.dialled.append(remote_host)
            host = "127.0.0.1" if remote_host == self.ADDRESS else remote_host
            return await connect(host, remote_port, **options)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)


def test_a_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    host = PublicHost(monkeypatch)
    with serving({"/secret": fine}) as inside:
        with serving({"/a": redirect(f"{inside.url}/secret"), "/b": fine}) as server:
            url = f"http://public.example:{server.server_address[1]}"
            with fetcher(allow_private_addresses=False) as opened:
                assert opened.fetch(MediaRef(uri=f"{url}/b")) == DATA
                with pytest.raises(MediaFault) as caught:
                    opened.fetch(MediaRef(uri=f"{url}/a"))
        assert not inside.asked
    assert caught.value.code is DeadCode.FORBIDDEN
    assert host.dialled == [host.ADDRESS]


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = PublicHost(monkeypatch, "127.0.0.1")
    close = {"Connection": "close"}
    with serving({"/a": lambda exchange: exchange.answer(200, DATA, **close)}) as server:
        ref = MediaRef(uri=f"http://public.example:{server.server_address[1]}/a")
        with fetcher(allow_private_addresses=False) as opened:
            assert opened.fetch(ref) == DATA
            assert (host.resolved, host.dialled) == (1, [host.ADDRESS])
            with pytest.raises(MediaFault) as caught:  # Now the name leads to this machine.
                opened.fetch(ref)
    assert caught.value.code is DeadCode.FORBIDDEN
    assert (host.resolved, host.dialled) == (2, [host.ADDRESS])


def test_a_proxy_is_used_but_not_for_private_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({}) as proxy:
        proxy.pages["http://a.example/a"] = fine
        proxy.pages["http://a.example/b"] = redirect("http://169.254.169.254/b")
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        with fetcher(allow_private_addresses=False) as opened:
            assert opened.fetch(MediaRef(uri="http://a.example/a")) == DATA
        for url in ("http://a.example/b", "http://127.1/c", "http://localhost/d"):
            assert fault(url, allow_private_addresses=False).code is DeadCode.FORBIDDEN
        assert list(proxy.asked) == ["http://a.example/a", "http://a.example/b"]


def test_certificates_of_the_environment_are_trusted_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CERTIFICATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    certificate, key = own_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving({"/a": fine}, tls=context) as server:
        url = server.url.replace("http:", "https:") + "/a"
        found = fault(url)
        assert found.code is DeadCode.FETCH_FAILED
        assert "certificate" in found.what
        assert not server.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with fetcher() as opened:
            assert opened.fetch(MediaRef(uri=url)) == DATA


def test_a_host_that_does_not_exist_is_not_found_at_once() -> None:
    found = fault("http://no-such-host.invalid/a")
    assert found.code is DeadCode.NOT_FOUND
    assert "no-such-host.invalid" in found.what


def test_a_port_that_nobody_listens_on_is_a_fault() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = fault(f"http://127.0.0.1:{unused.getsockname()[1]}/a", attempts=1)
    assert found.code is DeadCode.FETCH_FAILED


@pytest.mark.parametrize("uri", ["http://", "https:///a", "http://[::1", "http://h:port/a"])
def test_a_broken_url_is_a_fault(uri: str) -> None:
    assert fault(uri).code is DeadCode.FETCH_FAILED


def test_a_user_and_password_are_sent_to_their_host_and_never_shown() -> None:
    sent: list[tuple[str, str | None]] = []

    def noted(exchange: Exchange) -> None:
        sent.append((exchange.path, exchange.headers["Authorization"]))
        exchange.answer(302, Location=f"{other.url}/b?sig=hush")

    with serving({"/b": status(404)}, "127.0.0.2") as other, serving({"/a": noted}) as server:
        url = server.url.replace("//", "//ann:hu%73h@")
        found = fault(f"{url}/a?token=hush")
        assert other.asked["/b?sig=hush"] == 1
    assert sent == [("/a?token=hush", "Basic YW5uOmh1c2g=")]
    assert "hush" not in found.what
    assert "hu%73h" not in found.what
    assert "ann" not in found.what


def test_fetched_files_come_in_the_order_of_their_references() -> None:
    answered = {name: threading.Event() for name in "abcd"}
    answered["d"].set()

    def page(name: str, later: str) -> Page:
        def waiting(exchange: Exchange) -> None:
            assert answered[later].wait(10)
            exchange.answer(200, name.encode())
            answered[name].set()

        return waiting

    pages = {f"/{name}": page(name, later) for name, later in ("ab", "bc", "cd")}
    with serving(pages) as server, fetcher() as opened:  # The last one is answered first.
        refs = [MediaRef(uri=f"{server.url}/{name}") for name in "abc"]
        refs.insert(1, MediaRef(data=b"own"))
        assert list(opened.fetch_ahead(refs)) == [b"a", b"own", b"b", b"c"]


def test_downloads_ahead_are_as_many_as_the_limits_allow() -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.05)
        exchange.answer(200, DATA)

    taken = 0

    def refs(url: str) -> Iterator[MediaRef]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield MediaRef(uri=f"{url}/a")

    with serving({"/a": slow}) as server, fetcher(concurrency=6, per_host=4) as opened:
        for number, found in enumerate(opened.fetch_ahead(refs(server.url)), 1):
            assert found == DATA
            assert taken <= number + 6
        assert server.most_in_flight == 4
    with serving({"/a": slow}) as one, serving({"/a": slow}, "127.0.0.2") as two:
        urls = [f"{server.url}/a" for server in (one, two)] * 10
        with fetcher(concurrency=3, per_host=3) as opened:
            assert set(opened.fetch_ahead(MediaRef(uri=url) for url in urls)) == {DATA}
        assert one.most_in_flight + two.most_in_flight <= 6
        assert max(one.most_in_flight, two.most_in_flight) <= 3


def test_threads_share_the_limits_of_a_fetcher() -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.02)
        exchange.answer(200, DATA)

    found: list[Any] = []
    with serving({"/a": slow}) as server, fetcher(per_host=3) as opened:
        refs = [MediaRef(uri=f"{server.url}/a")] * 10
        threads = [
            threading.Thread(target=lambda: found.extend(opened.fetch_ahead(refs)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [DATA] * 40
        assert server.most_in_flight == 3


def test_an_iterator_that_is_closed_early_leaves_nothing_behind() -> None:
    with serving({"/a": fine}) as server, fetcher() as opened:
        ahead = opened.fetch_ahead([MediaRef(uri=f"{server.url}/a")] * 20)
        assert next(ahead) == DATA
        ahead.close()  # type: ignore[attr-defined]  # A generator.
        assert opened.fetch(MediaRef(uri=f"{server.url}/a")) == DATA


def test_closing_a_fetcher_ends_the_waiting_of_other_threads() -> None:
    ended, begun = threading.Event(), threading.Event()

    def hanging(exchange: Exchange) -> None:
        begun.set()
        ended.wait(20)

    failure: list[BaseException] = []

    def wait_for(opened: MediaFetcher, url: str) -> None:
        try:
            opened.fetch(MediaRef(uri=f"{url}/a"))
        except BaseException as error:
            failure.append(error)

    with serving({"/a": hanging}) as server:
        with fetcher(timeout_s=60) as opened:
            thread = threading.Thread(target=wait_for, args=(opened, server.url))
            thread.start()
            begun.wait(10)
        thread.join(10)
        ended.set()
    assert not thread.is_alive()
    assert failure


def test_local_files_are_found_beside_the_input_or_by_their_whole_path(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "img").mkdir(parents=True)
    (folder / "img/a b.jpg").write_bytes(DATA)
    base = Location("", str(folder))
    named = ["img/a b.jpg", "./img/../img/a b.jpg", f"{folder}/img/a b.jpg"]
    named.append(f"file://{folder}/img/a%20b.jpg")
    with fetcher() as opened:
        refs = [MediaRef(uri=uri, base=base) for uri in named]
        assert list(opened.fetch_ahead(refs)) == [DATA] * 4


def test_local_files_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2000))
    os.mkfifo(tmp_path / "pipe")
    for name, code in (
        ("missing@2x?.jpg", DeadCode.NOT_FOUND),
        ("", DeadCode.NOT_FOUND),
        ("pipe", DeadCode.NOT_FOUND),
        ("large", DeadCode.TOO_LARGE),
    ):
        found = fault(f"{tmp_path}/{name}", max_bytes=1000)
        assert found.code is code
        assert found.what.startswith(f"{tmp_path}/{name}: ")
    assert fault("/dev/zero").code is DeadCode.NOT_FOUND


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("word " * 1000, "its name is too long"),
        ("denied/" * 1000, "its name is too long"),
        ("/a\0b.jpg", "its name has a NUL character"),
        ("file:///a%00b.jpg", "its name has a NUL character"),
        (f"s3://bucket/{'word ' * 1000}", "its name is too long"),
        ("gs://bucket/a\0b", "its name has a NUL character"),
    ],
    ids=["text", "path", "nul", "quoted nul", "key", "nul in a key"],
)
def test_a_text_in_place_of_a_path_is_not_found_and_shortened(uri: str, words: str) -> None:
    found = fault(uri)
    assert (found.code, words in found.what) == (DeadCode.NOT_FOUND, True), found.what
    assert found.what.isprintable()
    assert len(found.what) < 200
    assert found.what.startswith(uri.partition("\0")[0][:40])


def test_a_long_path_is_shown_with_its_end() -> None:
    assert "/4711.jpg: there is no such file" in fault(f"/nowhere{'/folder' * 40}/4711.jpg").what


@pytest.mark.parametrize("uri", ["file://other/x.jpg", "gs:///x.jpg"])
def test_a_fault_names_its_place_once(uri: str) -> None:
    assert fault(uri).what.count(uri) == 1


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("ftp://example.com/a.jpg", DeadCode.FETCH_FAILED),
        ("s3://AK:hush@bucket/a.jpg", DeadCode.FETCH_FAILED),
        ("file://host/a.jpg", DeadCode.FETCH_FAILED),
        ("s3://bucket/a.jpg?endpoint_override=evil.example", DeadCode.FORBIDDEN),
        ("s3://bucket/a.jpg?scheme=http", DeadCode.FORBIDDEN),
    ],
)
def test_a_uri_that_is_not_allowed_in_data_is_a_fault(uri: str, code: DeadCode) -> None:
    found = fault(uri)
    assert found.code is code
    assert "hush" not in found.what


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::8.8.8.8", True),
        ("2002:7f00:1::", False),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert addresses.is_public(addresses.ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "changes", [{"concurrency": 0}, {"per_host": 0}, {"attempts": 0}, {"timeout_s": 0.0}]
)
def test_settings_that_cannot_be_used_name_their_flag(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--fetch-"):
        FetchSettings(**changes)

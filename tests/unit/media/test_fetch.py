from __future__ import annotations

import gzip
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CommandError
from bridge.media.addresses import IPAddress, is_public
from bridge.media.fetch import Fetched, Fetcher, _name_in
from bridge.media.hosts import FetchRules, judged_url, resolve
from tests.unit.media.strangers import Authority, Behaviour, file, head, serving

pytestmark = pytest.mark.anyio
MB = 1_000_000


def loopback_or_public(address: IPAddress) -> bool:
    return address == ip_address("127.0.0.1") or is_public(address)


class Names:
    """A resolver; each look-up of a name takes its next answer, the last one for ever."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            return await resolve(host, port)  # numbers, in all their spellings
        answers = self.answers[host]
        return [answers.pop(0) if len(answers) > 1 else answers[0]]


class Web:
    """One stranger's server, and a fetcher that may talk to it."""

    def __init__(self, port: int, fetcher: Fetcher, names: Names) -> None:
        self.port = port
        self.fetcher = fetcher
        self.names = names

    def url(self, path: str = "/", host: str = "files.test") -> str:
        return f"https://{host}:{self.port}{path}"

    def fetch(
        self, url: str | None = None, *, limit_bytes: int = MB
    ) -> AbstractAsyncContextManager[Fetched]:
        return self.fetcher.fetch(url or self.url(), limit_bytes=limit_bytes)

    async def refusal(self, url: str | None = None, *, limit_bytes: int = MB) -> CommandError:
        with pytest.raises(CommandError) as caught:
            async with self.fetch(url, limit_bytes=limit_bytes):
                pass
        return caught.value


Opened = Callable[..., AbstractAsyncContextManager[Web]]


@pytest.fixture
def web(authority: Authority, server_tls: ssl.SSLContext, folder: Path) -> Opened:
    @asynccontextmanager
    async def opened(
        behaviour: Behaviour,
        *,
        names: Names | None = None,
        tls: ssl.SSLContext = server_tls,
        idle_timeout_s: float = 5,
        total_timeout_s: float = 5,
    ) -> AsyncIterator[Web]:
        names = names or Names(files_test=["127.0.0.1"], other_test=["127.0.0.1"])
        async with serving(behaviour, tls) as port:
            rules = FetchRules(
                resolve=names,
                is_allowed=loopback_or_public,
                port=port,
                tls=authority.client_context(),
                idle_timeout_s=idle_timeout_s,
                total_timeout_s=total_timeout_s,
            )
            yield Web(port, Fetcher(folder, rules=rules), names)
        assert list(folder.iterdir()) == []  # whatever happened, nothing is left on disk

    return opened


@pytest.fixture
def cautious(authority: Authority, folder: Path) -> Fetcher:
    """A fetcher with the rules of production; only its authorities are few, and quickly loaded."""
    return Fetcher(folder, rules=FetchRules(tls=authority.client_context()))


def answering(data: bytes) -> Behaviour:
    async def behaviour(_path: str, stream: ByteStream) -> None:
        await stream.send(data)

    return behaviour


def redirecting(location: str, status: int = 302) -> Behaviour:
    return answering(head(status, Location=location, Content_Length="0"))


async def test_a_file_arrives_with_its_size_hash_and_claims(web: Opened) -> None:
    body = bytes(range(256)) * 5000
    claims = {
        "Content_Type": "Image/PNG; charset=x",
        "Content_Disposition": "attachment; filename*=utf-8''or%C3%A7amento.png",
    }
    async with web(answering(file(body, **claims))) as site:
        async with site.fetch(limit_bytes=len(body)) as fetched:
            assert fetched.path.read_bytes() == body
            assert fetched.size_bytes == len(body)
            assert fetched.sha256 == hashlib.sha256(body).hexdigest()
            assert fetched.declared == "image/png"
            assert fetched.suggested_name == "orçamento.png"
        assert not fetched.path.exists()


async def test_files_that_are_still_used_keep_nobody_in_line(web: Opened) -> None:
    """What follows a download, an upload to WhatsApp say, may take an hour."""
    async with web(answering(file(b"x"))) as site, AsyncExitStack() as used:
        for _ in range(20):
            with anyio.fail_after(20):
                await used.enter_async_context(site.fetch())


async def test_the_name_in_the_url_serves_where_no_header_gives_one(web: Opened) -> None:
    async with (
        web(answering(file(b"x"))) as site,
        site.fetch(site.url("/a/nota%20fiscal.pdf?token=1")) as fetched,
    ):
        assert fetched.suggested_name == "nota fiscal.pdf"
        assert fetched.declared is None


async def test_three_redirects_are_followed_and_a_fourth_is_not(web: Opened) -> None:
    async def counting_down(path: str, stream: ByteStream) -> None:
        left = int(path[1:])
        if left:
            await stream.send(head(307, Location=f"/{left - 1}", Content_Length="0"))
        else:
            await stream.send(file(b"arrived"))

    async with web(counting_down) as site:
        async with site.fetch(site.url("/3")) as fetched:
            assert fetched.path.read_bytes() == b"arrived"
        refusal = await site.refusal(site.url("/4"))
    assert refusal.code == "media_url_refused"
    assert "redirects" in refusal.sentence


async def test_a_redirect_to_another_allowed_host_is_asked_by_its_own_name(web: Opened) -> None:
    async def behaviour(path: str, stream: ByteStream) -> None:
        if path == "/there":
            await stream.send(file(b"other"))
        else:
            there = site.url("/there", host="other.test")
            await stream.send(head(301, Location=there, Content_Length="0"))

    async with web(behaviour) as site, site.fetch() as fetched:
        assert fetched.path.read_bytes() == b"other"
        assert site.names.asked == ["files.test", "other.test"]


@pytest.mark.parametrize(
    "url",
    [
        "http://files.test/",
        "ftp://files.test/",
        "file:///etc/passwd",
        "//files.test/",
        "files.test/x",
        "https://user@files.test/",
        "https://user:secret@files.test/",
        "https://files.test:8443/",
        "https://files.test:80/",
        "https://",
        "https:///path",
        "https://files.test:99999/",
        "https://files.test/\r\nHost: inside",
        "https://[::1/",
        "https://0177.0.0.1/",
        "https://files.test/" + "a" * 5000,
        "",
    ],
)
async def test_a_url_of_a_wrong_form_is_refused(cautious: Fetcher, folder: Path, url: str) -> None:
    with pytest.raises(CommandError) as caught:
        async with cautious.fetch(url, limit_bytes=MB):
            pass
    assert caught.value.code == "media_url_refused"
    assert not caught.value.retryable
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "10.0.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:169.254.169.254]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[ff02::1]",
    ],
)
async def test_a_host_inside_is_refused_however_it_is_spelt(cautious: Fetcher, host: str) -> None:
    with pytest.raises(CommandError) as caught:
        async with cautious.fetch(f"https://{host}/", limit_bytes=MB):
            pass
    assert caught.value.code == "media_url_refused"
    assert "public internet" in caught.value.sentence


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "127.0.0.2", "[::ffff:10.0.0.1]", "[::1]", "0x7f.2"]
)
async def test_a_redirect_to_an_address_inside_is_refused(web: Opened, host: str) -> None:
    async def behaviour(_path: str, stream: ByteStream) -> None:
        await stream.send(head(302, Location=site.url("/latest/meta-data", host=host)))

    async with web(behaviour) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_url_refused"
    assert "public internet" in refusal.sentence


async def test_a_redirect_to_a_name_inside_is_refused(web: Opened) -> None:
    async def behaviour(_path: str, stream: ByteStream) -> None:
        await stream.send(head(302, Location=site.url("/", host="intranet.test")))

    names = Names(files_test=["127.0.0.1"], intranet_test=["10.1.2.3"])
    async with web(behaviour, names=names) as site:
        refusal = await site.refusal()
    assert names.asked == ["files.test", "intranet.test"]
    assert "public internet" in refusal.sentence


@pytest.mark.parametrize(
    ("location", "word"),
    [
        ("http://files.test/", "https"),
        ("file:///etc/passwd", "https"),
        ("gopher://files.test/", "https"),
        ("https://user:secret@files.test/", "password"),
        ("https://files.test:22/", "port"),
        ("https://0177.0.0.1/", "understood"),
    ],
)
async def test_a_redirect_is_judged_like_the_first_url(
    web: Opened, location: str, word: str
) -> None:
    async with web(redirecting(location)) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_url_refused"
    assert word in refusal.sentence


async def test_a_redirect_to_nowhere_is_an_answer_without_a_file(web: Opened) -> None:
    async with web(answering(head(302, Content_Length="0"))) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_unreachable"


async def test_dns_is_asked_once_and_the_judged_address_is_connected_to(
    web: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[object] = []
    real = socket.getaddrinfo

    def spied(host: str | bytes | None, *rest: object, **more: object) -> object:
        looked_up.append(host)
        return real(host, *rest, **more)  # type: ignore[arg-type]

    names = Names(files_test=["127.0.0.1", "10.0.0.1"])  # turns private after the first look
    async with web(answering(file(b"safe")), names=names) as site:
        monkeypatch.setattr(socket, "getaddrinfo", spied)
        async with site.fetch() as fetched:
            assert fetched.path.read_bytes() == b"safe"
    assert names.asked == ["files.test"]
    assert "files.test" not in looked_up


async def test_dns_that_changes_before_a_redirect_to_the_same_host_is_judged_again(
    web: Opened,
) -> None:
    names = Names(files_test=["127.0.0.1", "169.254.169.254"])
    async with web(redirecting("/again"), names=names) as site:
        refusal = await site.refusal()
    assert "public internet" in refusal.sentence


async def test_the_first_address_that_answers_is_used_and_those_inside_never(
    authority: Authority, server_tls: ssl.SSLContext, folder: Path
) -> None:
    async def several(_host: str, _port: int) -> Sequence[str]:
        return ["10.0.0.1", "127.0.0.3", "127.0.0.1"]  # nobody listens on the second

    judged: list[str] = []

    def loopback(address: IPAddress) -> bool:
        judged.append(str(address))
        return address.is_loopback

    async with serving(answering(file(b"x")), server_tls) as port:
        rules = FetchRules(
            resolve=several, is_allowed=loopback, port=port, tls=authority.client_context()
        )
        async with Fetcher(folder, rules=rules).fetch(
            f"https://files.test:{port}/", limit_bytes=MB
        ) as fetched:
            assert fetched.size_bytes == 1
    assert judged == ["10.0.0.1", "127.0.0.3", "127.0.0.1"]


async def test_a_certificate_for_another_name_is_refused_for_good(
    web: Opened, authority: Authority
) -> None:
    async with web(answering(file(b"x")), tls=authority.server_context("else.test")) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_unreachable"
    assert "certificate" in refusal.sentence
    assert not refusal.retryable


async def test_a_certificate_of_an_unknown_authority_is_refused(
    web: Opened, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)
    async with web(answering(file(b"x")), tls=stranger.server_context("files.test")) as site:
        refusal = await site.refusal()
    assert "certificate" in refusal.sentence


async def test_a_host_without_address_may_get_one_later(authority: Authority, folder: Path) -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    rules = FetchRules(resolve=unknown, tls=authority.client_context())
    fetcher = Fetcher(folder, rules=rules)
    with pytest.raises(CommandError) as caught:
        async with fetcher.fetch("https://nowhere.test/", limit_bytes=MB):
            pass
    assert caught.value.code == "media_unreachable"
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "retryable"), [(404, False), (403, False), (206, False), (429, True), (503, True)]
)
async def test_a_status_says_whether_to_try_again(
    web: Opened, status: int, retryable: bool
) -> None:
    async with web(answering(head(status, Content_Length="0"))) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_unreachable"
    assert str(status) in refusal.sentence
    assert refusal.retryable is retryable


async def test_two_gigabytes_are_refused_before_a_byte_of_them_is_read(web: Opened) -> None:
    async def declaring(_path: str, stream: ByteStream) -> None:
        await stream.send(head(Content_Length=str(2 * 1024**3)))
        await anyio.sleep_forever()

    async with web(declaring) as site:
        refusal = await site.refusal(limit_bytes=100 * 1024**2)
    assert refusal.code == "media_too_large"
    assert "100 MB" in refusal.sentence


async def test_an_endless_body_is_cut_at_the_limit(web: Opened) -> None:
    sent = 0

    async def endless(_path: str, stream: ByteStream) -> None:
        nonlocal sent
        await stream.send(head(Transfer_Encoding="chunked"))
        while True:
            await stream.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            sent += 0x10000

    async with web(endless) as site:
        refusal = await site.refusal(limit_bytes=MB)
    assert refusal.code == "media_too_large"
    assert sent < 20 * MB  # what fits into the buffers of two sockets


async def test_a_body_without_length_is_cut_at_the_limit(web: Opened) -> None:
    async with web(answering(head() + bytes(MB + 1))) as site:
        assert (await site.refusal(limit_bytes=MB)).code == "media_too_large"


async def test_more_bytes_than_declared_are_not_read(web: Opened) -> None:
    async with (
        web(answering(head(Content_Length="10") + bytes(MB))) as site,
        site.fetch(limit_bytes=10) as fetched,
    ):
        assert fetched.size_bytes == 10


async def test_fewer_bytes_than_declared_are_no_file(web: Opened) -> None:
    async with web(answering(head(Content_Length="1000") + b"short")) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_unreachable"
    assert refusal.retryable


@pytest.mark.parametrize("length", ["-1", "1, 2", "ten", "9" * 20, "9" * 5000, "٣"])
async def test_a_nonsensical_length_is_no_file(web: Opened, length: str) -> None:
    async with web(answering(head(Content_Length=length) + b"x")) as site:
        refusal = await site.refusal()
    assert refusal.code in {"media_unreachable", "media_too_large"}


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "deflate, gzip"])
async def test_a_compressed_answer_is_refused_unopened(web: Opened, coding: str) -> None:
    bomb = gzip.compress(bytes(3 * MB))
    async with web(answering(file(bomb, Content_Encoding=coding))) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_url_refused"
    assert "compresses" in refusal.sentence


async def test_a_head_that_drips_ends_with_the_total_time(web: Opened) -> None:
    async def dripping(_path: str, stream: ByteStream) -> None:
        while True:
            await stream.send(b"H")
            await anyio.sleep(0.02)

    async with web(dripping, idle_timeout_s=5, total_timeout_s=0.3) as site:
        refusal = await site.refusal()
    assert refusal.code == "media_too_slow"
    assert refusal.retryable


async def test_a_body_that_drips_ends_with_the_total_time(web: Opened) -> None:
    async def dripping(_path: str, stream: ByteStream) -> None:
        await stream.send(head(Content_Length="100000"))
        while True:
            await stream.send(b"x")
            await anyio.sleep(0.02)

    async with web(dripping, idle_timeout_s=5, total_timeout_s=0.3) as site:
        assert (await site.refusal()).code == "media_too_slow"


async def test_a_server_that_falls_silent_ends_with_the_idle_time(web: Opened) -> None:
    async def silent(_path: str, stream: ByteStream) -> None:
        await stream.send(head(Content_Length="100000") + b"x")
        await anyio.sleep_forever()

    async with web(silent, idle_timeout_s=0.2, total_timeout_s=30) as site:
        assert (await site.refusal()).code == "media_too_slow"


async def test_an_endless_head_is_no_file(web: Opened) -> None:
    async def endless(_path: str, stream: ByteStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send(b"X-Filler: " + b"x" * 60_000 + b"\r\n")

    async with web(endless) as site:
        assert (await site.refusal()).code == "media_unreachable"


async def test_a_server_that_speaks_something_else_is_no_file(web: Opened) -> None:
    async with web(answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")) as site:
        assert (await site.refusal()).code == "media_unreachable"


async def test_nobody_listening_is_worth_a_retry(web: Opened) -> None:
    async with web(answering(b"")) as site:
        pass
    refusal = await site.refusal()
    assert refusal.code == "media_unreachable"
    assert refusal.retryable


async def test_a_cancelled_download_leaves_nothing(web: Opened, folder: Path) -> None:
    async def silent(_path: str, stream: ByteStream) -> None:
        await stream.send(head(Content_Length="100000") + b"x")
        begun.set()
        await anyio.sleep_forever()

    begun = anyio.Event()
    async with web(silent) as site, anyio.create_task_group() as tasks:
        tasks.start_soon(site.refusal)
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert list(folder.iterdir()) == []


async def test_a_folder_that_takes_nothing_is_our_fault_and_worth_a_retry(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        async with Fetcher(tmp_path / "gone").fetch("https://files.test/", limit_bytes=MB):
            pass
    assert caught.value.code == "media_no_space"
    assert caught.value.retryable


@given(st.text(max_size=200))
async def test_any_text_as_url_is_judged_and_nothing_else(text: str) -> None:
    try:
        url = judged_url(text, FetchRules())
    except CommandError as refusal:
        assert refusal.code == "media_url_refused"
    else:
        assert url.scheme == "https"
        assert not url.userinfo


@given(st.text(alphabet=st.characters(exclude_characters="\r\n"), max_size=200))
async def test_any_disposition_gives_a_name_or_none(text: str) -> None:
    for disposition in (text, f"attachment; {text}", f"attachment; filename{text}"):
        name = _name_in(disposition)
        assert name is None or isinstance(name, str)

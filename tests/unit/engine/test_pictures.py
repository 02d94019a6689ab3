"""Pictures are fetched from WhatsApp's own hosts, whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest

from bridge.engine import pictures
from bridge.engine.spelling import other_numbers, person_found
from bridge.errors import CommandError
from bridge.events import Person
from bridge.ids import Jid
from bridge.orders import FetchPicture

URL = "https://pps.whatsapp.net/v/abc?oe=1"
JPEG = b"\xff\xd8\xff" + bytes(5000)


def client(*answers: httpx.Response | Exception) -> httpx.Client:
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        told = left.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    return httpx.Client(transport=httpx.MockTransport(answer))


def test_a_picture_comes_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "picture"
    told = pictures.download(
        URL, str(file), 10_000, client=client(httpx.Response(200, content=JPEG))
    )
    assert file.read_bytes() == JPEG
    assert told == {"sha256": hashlib.sha256(JPEG).hexdigest(), "size_bytes": len(JPEG)}


@pytest.mark.parametrize(
    "url",
    [
        "http://pps.whatsapp.net/v/abc",
        "https://pps.whatsapp.net.example.com/v/abc",
        "https://example.com/?pps.whatsapp.net",
        "https://127.0.0.1/",
        "https://whatsapp.net@example.com/",
        "file:///etc/passwd",
    ],
)
def test_other_hosts_are_not_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(CommandError) as refused:
        pictures.download(url, str(tmp_path / "picture"), 10_000, client=client())
    assert (refused.value.code, refused.value.retryable) == ("picture_refused", False)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200, content=bytes(10_001)), "media_too_large"),
        (httpx.Response(302, headers={"location": "https://example.com"}), "media_unavailable"),
        (httpx.Response(404), "media_unavailable"),
        (httpx.ReadTimeout("slow"), "media_unavailable"),
        (httpx.ConnectError("away"), "media_unavailable"),
    ],
)
def test_what_fails_leaves_nothing(
    tmp_path: Path, answer: httpx.Response | Exception, code: str
) -> None:
    file = tmp_path / "picture"
    with pytest.raises(CommandError) as fault:
        pictures.download(URL, str(file), 10_000, client=client(answer))
    assert fault.value.code == code
    assert not file.exists()


def test_a_disk_that_takes_nothing_is_asked_again_later(tmp_path: Path) -> None:
    nowhere = tmp_path / "not there" / "picture"
    with pytest.raises(CommandError) as fault:
        pictures.download(
            URL, str(nowhere), 10_000, client=client(httpx.Response(200, content=JPEG))
        )
    assert (fault.value.code, fault.value.retryable) == ("media_no_space", True)


@pytest.mark.parametrize("there", [{"state": "none"}, {"state": "hidden"}])
def test_where_there_is_none_nothing_is_fetched(there: dict[str, str]) -> None:
    order = FetchPicture(of=Jid("1@lid"), path="/nowhere/at/all", max_bytes=1)
    assert pictures.fetch(there, order) == there
    known = FetchPicture(of=Jid("1@lid"), path="/nowhere/at/all", max_bytes=1, known_id="7")
    assert pictures.fetch({"state": "there", "id": "7", "url": URL}, known) == {
        "state": "unchanged"
    }


def test_only_a_number_with_two_spellings_is_looked_up() -> None:
    assert other_numbers(Jid("5531987654321@s.whatsapp.net")) == ["5531987654321", "553187654321"]
    for one in ("14155552671@s.whatsapp.net", "5531987654321@lid", "5531987654321@g.us"):
        assert other_numbers(Jid(one)) == []
    nobody = {"number": "1", "jid": None, "lid": None}
    somebody = {"number": "2", "jid": "2@s.whatsapp.net", "lid": "9@lid"}
    assert person_found([nobody, nobody]) is None
    assert person_found([nobody, somebody]) == Person(
        phone_jid=Jid("2@s.whatsapp.net"), lid=Jid("9@lid")
    )

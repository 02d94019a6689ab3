"""The control API: what it answers, and how it refuses."""

from __future__ import annotations

import base64
import hashlib
import io
import ssl
import urllib.error
import urllib.parse
import urllib.request

import httpx
import pytest
import qrcode

from bridge.sandbox.whatsapp.client import ControlRefused
from tests.fixtures.simulator import Simulator, fresh_number, own_simulator


@pytest.fixture
def people(simulator: Simulator) -> tuple[str, str]:
    """Two phones."""
    ana, bia = fresh_number(), fresh_number()
    simulator.add_phone(ana, "Ana")
    simulator.add_phone(bia, "Bia")
    return ana, bia


def test_phones_talk_to_each_other(simulator: Simulator, people: tuple[str, str]) -> None:
    ana, bia = people
    sent = simulator.send_text("+" + ana, f"+{bia}", "oi")

    got = simulator.wait_for_text(bia, "oi")
    simulator.read(bia, [sent])

    assert (got["id"], got["sender_number"], got["from_me"]) == (sent, ana, False)
    assert simulator.wait_for_receipt(ana, sent, "delivered")["reader_number"] == bia
    simulator.wait_for_receipt(ana, sent, "read")
    group = simulator.add_group("Duas", [ana, bia])
    simulator.send_text(bia, group, "para nós duas")
    assert simulator.wait_for_text(ana, "para nós duas")["chat"] == group


def test_many_new_contacts_do_not_use_up_the_prekeys(simulator: Simulator) -> None:
    popular = fresh_number()
    simulator.add_phone(popular, "Popular")
    for _ in range(120):
        fan = fresh_number()
        simulator.add_phone(fan)
        simulator.send_text(fan, popular, f"hello from {fan}")

    entries = simulator.inbox(popular)

    assert len([each for each in entries if each["kind"] == "message"]) == 120
    assert not [each for each in entries if each["kind"] == "undecryptable"]


def test_the_inbox_waits_for_what_comes_next(simulator: Simulator, people: tuple[str, str]) -> None:
    ana, bia = people
    assert simulator.inbox(bia, wait_s=0.05) == []
    simulator.send_text(ana, bia, "one")
    [first] = simulator.inbox(bia, wait_s=5)

    assert simulator.inbox(bia, after=first["seq"]) == []


def test_removed_people_are_unknown(simulator: Simulator, people: tuple[str, str]) -> None:
    ana, bia = people
    simulator.remove_phone(bia)

    with pytest.raises(ControlRefused, match="404 unknown_recipient"):
        simulator.send_text(ana, bia, "gone")
    with pytest.raises(ControlRefused, match="404 unknown_phone"):
        simulator.phone(bia)


def _png(text: str) -> str:
    image = io.BytesIO()
    qrcode.make(text).save(image, "PNG")
    return "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("messages", {"to": "{bia}"}, 400, "bad_request"),
        ("messages", {"text": "x"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "text": "x", "tpye": "text"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "text": 5}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "type": "telegram"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "type": "sticker"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "type": "location"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "type": "poll", "text": "?"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "type": "image"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "type": "image", "media_base64": "%"}, 400, "bad_request"),
        ("messages", {"to": "{bia}", "text": "x", "quoted_id": "?"}, 404, "unknown_message"),
        ("messages", {"to": "{bia}", "type": "revoke"}, 400, "bad_request"),
        ("messages", {"to": "5500000000000", "text": "x"}, 404, "unknown_recipient"),
        ("messages", {"to": "1203@g.us", "text": "x"}, 404, "unknown_recipient"),
        ("read", {"ids": ["?"]}, 404, "unknown_message"),
        ("typing", {"to": "{bia}", "state": "dancing"}, 400, "bad_request"),
        ("chats", {"to": "{bia}", "archived": "yes"}, 400, "bad_request"),
        ("chats", {"to": "5500000000000", "archived": True}, 404, "unknown_recipient"),
        ("scan", {"qr": "nonsense"}, 400, "bad_qr"),
        ("scan", {"qr": "data:image/png;base64,AAAA"}, 400, "bad_qr"),
        ("scan", {"qr": _png("nonsense")}, 400, "bad_qr"),
        ("scan", {"qr": f"ref,{'A' * 43}=,{'A' * 43}=,{'A' * 43}="}, 409, "qr_expired"),
        ("link-code", {"code": "short"}, 409, "wrong_code"),
        ("link-code", {"code": "ABCD-EFGH"}, 409, "no_code_requested"),
        ("unlink", {"device": 7}, 404, "unknown_device"),
        ("history", {"conversations": [{"to": "5500000000000", "messages": []}]}, 404, None),
        ("nothing", {}, 404, "http"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(
    simulator: Simulator,
    people: tuple[str, str],
    path: str,
    body: dict[str, object],
    status: int,
    code: str | None,
) -> None:
    ana, bia = people
    filled = {name: bia if value == "{bia}" else value for name, value in body.items()}
    url = f"{simulator.control_url}/phones/{ana}/{path}"

    response = httpx.post(url, json=filled, trust_env=False)

    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == (code or error["code"])
    assert error["message"].endswith(".")


def test_bad_phones_groups_and_faults_are_refused(
    simulator: Simulator, people: tuple[str, str]
) -> None:
    ana, _ = people
    refused = [
        ("/phones", {"number": ana}, 409),
        ("/phones", {"number": "Ana"}, 400),
        ("/phones", {}, 400),
        ("/groups", {"subject": "", "participants": [ana]}, 400),
        ("/groups", {"subject": "G", "participants": []}, 400),
        ("/groups", {"subject": "G", "participants": ["5500000000000"]}, 404),
        ("/faults", {"kind": "earthquake"}, 400),
        ("/faults", {"kind": "drop", "for_s": -1}, 400),
        ("/faults", {"kind": "drop", "number": "5500000000000"}, 404),
    ]
    for path, body, status in refused:
        response = httpx.post(simulator.control_url + path, json=body, trust_env=False)
        assert response.status_code == status, (path, body)
        assert response.json()["error"]["message"]


def test_the_media_host_keeps_what_is_uploaded(simulator: Simulator) -> None:
    trust = simulator.trust()
    context = ssl.create_default_context(cafile=trust["ca_file"])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": trust["proxy_url"]}),
        urllib.request.HTTPSHandler(context=context),
    )
    token = base64.urlsafe_b64encode(hashlib.sha256(b"blob").digest()).decode()

    def upload(path: str, **query: str) -> urllib.request.Request:
        url = f"https://mmg.whatsapp.net/mms/{path}?{urllib.parse.urlencode(query)}"
        return urllib.request.Request(url, data=b"blob", method="POST")

    for refused, status in (
        (upload(f"image/{token}", token=token), 401),
        (upload(f"image/{token}", auth="guessed", token=token), 401),
        (upload(f"image/{token[::-1]}", auth="sandbox", token=token), 400),
        (upload(f"weather/{token}", auth="sandbox", token=token), 400),
    ):
        with pytest.raises(urllib.error.HTTPError) as error:
            opener.open(refused)
        error.value.close()
        assert error.value.code == status
    with opener.open(upload(f"image/{token}", auth="sandbox", token=token)) as answer:
        url = httpx.Response(200, content=answer.read()).json()["url"]
    with opener.open(url + "&hash=x") as answer:
        assert answer.read() == b"blob"


def test_a_simulator_tells_everything_about_itself() -> None:
    with own_simulator() as simulator:
        ana = fresh_number()
        simulator.add_phone(ana, "Ana")
        group = simulator.add_group("G", [ana])
        simulator.change_group(group, subject="H")

        state = simulator.state()

    assert [phone["number"] for phone in state["phones"]] == [ana]
    (told,) = state["groups"]
    assert (told["jid"], told["subject"], told["owner"]) == (group, "H", ana)
    assert (told["participants"], told["admins"]) == ([ana], [])
    assert (state["connections"], state["unknown_requests"], state["faults"]) == (0, [], [])

"""Linking the real engine to a simulated phone, and unlinking it."""

from __future__ import annotations

import base64
import io

import pytest
import qrcode

from bridge.sandbox.whatsapp.client import ControlRefused
from tests.fixtures.simulator import Simulator, fresh_number
from tests.integration.simulator.conftest import Engine, Engines, Linked, eventually


def test_a_scanned_qr_text_links_the_engine(engine: Engine, simulator: Simulator) -> None:
    number = fresh_number()
    simulator.add_phone(number, "Ana")

    device = engine.pair(number)

    assert device["jid"] == f"{number}:1@s.whatsapp.net"
    eventually(lambda: simulator.companions(number)[0]["active"])
    assert simulator.companions(number)[0]["prekeys"] > 100


def test_a_scanned_png_links_the_engine(engine: Engine, simulator: Simulator) -> None:
    number = fresh_number()
    simulator.add_phone(number, "Ana")
    engine.ask("connect")
    png = io.BytesIO()
    qrcode.make(engine.wait("QR")["text"]).save(png, "PNG")

    simulator.scan(number, "data:image/png;base64," + base64.b64encode(png.getvalue()).decode())

    engine.wait("Connected")


def test_the_right_code_links_the_engine(engine: Engine, simulator: Simulator) -> None:
    number = fresh_number()
    simulator.add_phone(number, "Ana")
    engine.ask("connect")
    engine.wait("QR")
    code = engine.ask("pair_by_code", number=number)

    simulator.link_code("+" + number, f"{code[:4]}-{code[4:]}".replace("--", "-"))

    engine.wait("Connected")


def test_a_wrong_code_links_nobody(engine: Engine, simulator: Simulator) -> None:
    number = fresh_number()
    simulator.add_phone(number, "Ana")
    engine.ask("connect")
    engine.wait("QR")
    code = engine.ask("pair_by_code", number=number).replace("-", "")
    wrong = ("2" if code[0] == "1" else "1") + code[1:]

    with pytest.raises(ControlRefused, match="wrong_code"):
        simulator.link_code(number, wrong)

    assert simulator.companions(number) == []


def test_a_used_qr_links_nobody_else(linked: Linked, simulator: Simulator) -> None:
    other = fresh_number()
    simulator.add_phone(other, "Eve")

    with pytest.raises(ControlRefused, match="qr_expired"):
        simulator.scan(other, linked.engine.wait("QR")["text"])


def test_the_phone_unlinks_a_connected_engine(linked: Linked) -> None:
    linked.simulator.unlink(linked.shop)

    assert linked.engine.wait("LoggedOut")["on_connect"] is False
    assert linked.simulator.companions(linked.shop) == []


def test_an_engine_unlinked_while_away_learns_it_at_its_login(
    linked: Linked, engines: Engines
) -> None:
    linked.engine.kill()
    linked.simulator.unlink(linked.shop)
    back = engines.again(linked.engine)

    back.ask("connect")

    assert back.wait("LoggedOut")["on_connect"] is True


def test_the_engine_logs_itself_out(linked: Linked) -> None:
    linked.engine.ask("logout")

    eventually(lambda: linked.simulator.companions(linked.shop) == [])


def test_an_engine_comes_back_without_a_qr(linked: Linked, engines: Engines) -> None:
    linked.engine.kill()
    back = engines.again(linked.engine)

    back.ask("connect")
    back.wait("Connected")

    assert back.count("QR") == 0
    linked.simulator.send_text(linked.customer, linked.shop, "still there?")
    back.wait_text("still there?")

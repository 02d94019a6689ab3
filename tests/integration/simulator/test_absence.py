"""What happens to messages while an engine is away, and when it dies before it acknowledges."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.simulator import fresh_number, own_simulator
from tests.integration.simulator.conftest import Engines, Linked, eventually


def test_what_comes_while_away_is_delivered_in_order(linked: Linked, engines: Engines) -> None:
    linked.engine.kill()
    group = linked.simulator.add_group("G", [linked.customer, linked.shop])
    texts = [f"while away {index}" for index in range(20)]
    for text in texts:
        linked.simulator.send_text(linked.customer, linked.shop, text)
    linked.simulator.send_text(linked.customer, group, "group while away")
    eventually(lambda: linked.simulator.companions(linked.shop)[0]["queued"] >= 21)
    back = engines.again(linked.engine)

    back.ask("connect")

    back.wait_text("group while away")
    assert back.texts() == [*texts, "group while away"]
    eventually(lambda: linked.simulator.companions(linked.shop)[0]["unacknowledged"] == 0)


def test_what_was_not_acknowledged_comes_again(linked: Linked, engines: Engines) -> None:
    simulator = linked.simulator
    simulator.start_fault("deaf", number=linked.shop, for_s=0.3)
    simulator.send_text(linked.customer, linked.shop, "into the void")
    assert simulator.companions(linked.shop)[0]["unacknowledged"] >= 1

    linked.engine.wait_count("Connected", 2)

    linked.engine.wait_text("into the void")
    eventually(lambda: simulator.companions(linked.shop)[0]["unacknowledged"] == 0)


def test_a_damaged_message_is_asked_for_again(linked: Linked) -> None:
    garbled = linked.simulator.send(
        linked.customer, to=linked.shop, type="text", text="twice", garbled=True
    )

    assert linked.engine.wait("UndecryptableMessage")["id"] == garbled
    assert linked.engine.wait_text("twice")["id"] == garbled
    linked.simulator.wait_for_receipt(linked.customer, garbled, "retry")


def test_a_damaged_group_message_is_asked_for_again(linked: Linked) -> None:
    group = linked.simulator.add_group("G", [linked.customer, linked.shop])
    garbled = linked.simulator.send(
        linked.customer, to=group, type="text", text="twice", garbled=True
    )

    assert linked.engine.wait_text("twice")["id"] == garbled


def test_linked_accounts_survive_a_restart_of_the_simulator(
    tmp_path: Path, engines: Engines
) -> None:
    shop, customer = fresh_number(), fresh_number()
    with own_simulator(state=tmp_path) as before:
        before.add_phone(shop, "Shop")
        before.add_phone(customer, "Maria")
        group = before.add_group("G", [customer, shop])
        engine = engines.new(before)
        engine.pair(shop)
        before.send_text(customer, shop, "one")
        engine.wait_text("one")
        engine.ask("send_text", to=customer, text="two")
        before.wait_for_text(customer, "two")
        engine.kill()
        before.send_text(customer, shop, "three")
        port = int(before.info.proxy_url.rpartition(":")[2])

    with own_simulator(state=tmp_path, proxy_port=port) as after:
        assert after.info.root_key == before.info.root_key
        back = engines.again(engine)
        back.ask("connect")
        back.wait_text("three")
        after.send_text(customer, shop, "four")
        after.send_text(customer, group, "five")
        back.wait_text("four")
        back.wait_text("five")
        back.ask("send_text", to=customer, text="six")
        after.wait_for_text(customer, "six")
        assert after.wait_for_text(customer, "two")

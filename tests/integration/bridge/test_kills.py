"""`kill -9` in the middle of sends: each arrived, or is told to be unclear; none arrived twice."""

from __future__ import annotations

import signal
from collections import Counter

import psutil
import pytest

from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.stack import eventually
from tests.integration.bridge.conftest import Shop

pytestmark = pytest.mark.timeout(240)
SENDS = 30


IN_BURST = 60


def received(shop: Shop) -> Counter[str]:
    inbox = shop.simulator.inbox(shop.customer)
    return Counter(m["text"] for m in inbox if (m.get("text") or "").startswith("burst"))


@pytest.mark.parametrize("victim", ["parent", "engine"])
def test_sends_under_way_are_never_doubled(service: BridgeProcess, shop: Shop, victim: str) -> None:
    shop.link()
    commands = {number: shop.send(f"burst {number}") for number in range(SENDS)}
    eventually(lambda: received(shop).total() >= 5, deadline_s=30)
    assert service.process is not None
    if victim == "parent":
        service.stop(signal.SIGKILL)
        service.start()
    else:
        for engine in psutil.Process(service.process.pid).children():
            engine.kill()

    statuses = {
        number: shop.ended(command, deadline_s=90)["status"] for number, command in commands.items()
    }
    arrived = received(shop)
    assert max(arrived.values()) == 1
    assert set(statuses.values()) <= {"done", "unknown"}
    assert sum(status == "unknown" for status in statuses.values()) <= 1
    for number, status in statuses.items():
        if status == "done":
            assert arrived[f"burst {number}"] == 1


def test_a_receipt_settles_a_send_that_was_cut_off_from_its_answer(
    service: BridgeProcess, shop: Shop
) -> None:
    shop.link()
    assert shop.ended(shop.send("before"), deadline_s=40)["status"] == "done"
    shop.simulator.start_fault("slow", number=shop.number, delay_s=20)
    command = shop.send("burst cut off")  # it leaves at once, and its answer comes late
    eventually(lambda: received(shop).total(), deadline_s=30)
    assert service.process is not None
    for engine in psutil.Process(service.process.pid).children():
        engine.kill()
    shop.simulator.clear_faults()
    row = eventually(
        lambda: next(
            (row for row in shop.rows("commands", id=command) if row["status"] == "done"), None
        ),
        deadline_s=60,
    )
    assert row["attempts"] == 1
    assert received(shop) == {"burst cut off": 1}
    [message] = shop.rows("messages", id=row["message_id"])
    assert message["whatsapp_message_id"] == row["result"]["whatsapp_message_id"]
    assert message["status"] == "delivered"


@pytest.mark.parametrize("victims", ["engine", "both"])
def test_in_strict_mode_a_kill_loses_nothing_and_leaves_nothing_unclear(
    service: BridgeProcess, shop: Shop, victims: str
) -> None:
    shop.set(durability="strict")
    shop.link()
    commands = {number: shop.send(f"burst {number}") for number in range(SENDS)}
    eventually(lambda: received(shop).total() >= 5, deadline_s=30)
    incoming = [f"in {number}" for number in range(IN_BURST)]
    for text in incoming[:-1]:
        shop.receive(text)
    assert list(service.disk.rglob("checkpoint"))
    assert service.process is not None
    engines = psutil.Process(service.process.pid).children()
    for engine in engines:
        engine.kill()
    if victims == "both":
        service.process.kill()
        service.process.wait()
        service.start()
    shop.receive(incoming[-1])

    statuses = {
        number: shop.ended(command, deadline_s=90)["status"] for number, command in commands.items()
    }
    eventually(lambda: set(incoming) <= set(shop.texts()), deadline_s=60)
    texts = Counter(text for text in shop.texts() if text.startswith("in "))
    assert texts == Counter(incoming)
    arrived = received(shop)
    assert max(arrived.values()) == 1
    unclear = {number for number, status in statuses.items() if status != "done"}
    # with its parent the relay is gone that saw what left the engine
    assert len(unclear) <= (victims == "both")
    assert all(statuses[number] == "unknown" for number in unclear)
    for number, status in statuses.items():
        if status == "done":
            assert arrived[f"burst {number}"] == 1
    codes = {row["code"] for row in shop.rows("whatsapp_baileys_events")}
    assert not codes & {"strict_rescued", "strict_unavailable"}

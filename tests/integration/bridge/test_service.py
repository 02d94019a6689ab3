"""The whole service on real parts: the main job, and Supabase's bad days."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bridge.sandbox.stack import StackInfo, StackOptions
from tests.fixtures.bridge import AUTH_SECRET, BridgeProcess
from tests.fixtures.stack import eventually, running_in_background
from tests.integration.bridge.conftest import Shop

pytestmark = pytest.mark.timeout(240)


def test_link_receive_send_and_receipts(service: BridgeProcess, shop: Shop) -> None:
    shop.link()
    shop.receive("Bom dia!")
    eventually(lambda: "Bom dia!" in shop.texts())

    command = shop.ended(shop.send("Olá!"))
    assert command["status"] == "done"
    shop.simulator.wait_for_text(shop.customer, "Olá!")
    shop.simulator.read(shop.customer, [command["result"]["whatsapp_message_id"]])
    eventually(lambda: [m for m in shop.rows("messages", status="read") if m["from_me"]])
    [lead] = shop.rows("leads", workspace_id=shop.workspace)
    assert lead["push_name"] == "Maria"


@pytest.mark.parametrize("fault", ["503", "429", "hang"])
def test_a_short_absence_of_supabase_loses_and_doubles_nothing(
    service: BridgeProcess, shop: Shop, stack: StackInfo, fault: str
) -> None:
    shop.link()
    if fault == "hang":
        stack.faults.hang(for_s=4)
    else:
        stack.faults.answer(int(fault), for_s=4)
    texts = [f"while away {number}" for number in range(30)]
    for text in texts:
        shop.receive(text)
    eventually(lambda: shop.texts() == texts, deadline_s=30)
    assert fault == "hang" or "Supabase is back" in service.log


def test_an_absence_longer_than_the_lease_is_survived(
    service: BridgeProcess, shop: Shop, stack: StackInfo
) -> None:
    shop.link()
    stack.faults.answer(503, for_s=15)
    texts = [f"long away {number}" for number in range(10)]
    for text in texts:
        shop.receive(text)
        time.sleep(1.2)  # spread over the end of the lease: that is what is tested
    eventually(lambda: shop.texts() == texts, deadline_s=40)
    shop.until_status("connected")
    assert shop.ended(shop.send("wieder da"))["status"] == "done"


def test_answers_that_get_lost_double_nothing(
    service: BridgeProcess, shop: Shop, stack: StackInfo
) -> None:
    shop.link()
    commands = [shop.send(f"once {number}") for number in range(5)]
    stack.faults.cut(for_s=3, prefix="/rest/v1/rpc/bridge_")
    for number in range(5):
        shop.receive(f"incoming {number}")
    statuses = [shop.ended(command, deadline_s=40)["status"] for command in commands]
    assert statuses == ["done"] * 5
    eventually(lambda: len([t for t in shop.texts() if t.startswith("incoming")]) == 5)
    inbox = shop.simulator.inbox(shop.customer)
    received = [m["text"] for m in inbox if (m.get("text") or "").startswith("once")]
    assert received == [f"once {number}" for number in range(5)]


def test_a_cut_bell_is_rebuilt(service: BridgeProcess, shop: Shop, stack: StackInfo) -> None:
    shop.link()
    rings = service.log.count("Realtime rings")
    stack.faults.cut_realtime()
    eventually(lambda: service.log.count("Realtime rings") > rings, deadline_s=60)


def test_a_deaf_bell_is_replaced_and_the_timer_does_its_work(
    service: BridgeProcess, shop: Shop, stack: StackInfo
) -> None:
    shop.link()
    stack.faults.realtime_deaf()
    for number in range(4):
        assert shop.ended(shop.send(f"unheard {number}"))["status"] == "done"
    eventually(lambda: "commands came without a ring" in service.log)


@pytest.mark.parametrize("fault", ["answer", "hang"])
def test_a_stop_without_supabase_is_bounded_and_loses_nothing(
    service: BridgeProcess, shop: Shop, stack: StackInfo, fault: str
) -> None:
    shop.link()
    if fault == "hang":
        stack.faults.hang(for_s=600)
    else:
        stack.faults.answer(503, for_s=600)
    shop.receive("just before the stop")
    assert service.stop(within_s=60) == 0
    stack.faults.heal()
    service.start()
    shop.until_status("connected", deadline_s=60)
    eventually(lambda: shop.texts() == ["just before the stop"], deadline_s=60)


def test_a_second_signal_ends_at_once(service: BridgeProcess, shop: Shop, stack: StackInfo) -> None:
    shop.link()
    stack.faults.hang(for_s=600)
    assert service.process is not None
    service.process.terminate()
    eventually(lambda: "Stopping" in service.log)
    service.process.terminate()
    assert service.process.wait(20) == 128 + 15


def test_a_database_without_migrations_is_one_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "migrations"
    empty.mkdir()
    options = StackOptions(
        directory=tmp_path / "stack", port=0, fresh=True, durable=False, migrations=empty
    )
    with running_in_background(options) as bare:
        variables = {
            "SUPABASE_URL": bare.url,
            "SUPABASE_SERVICE_ROLE_KEY": bare.service_role_key,
            "BAILEYS_AUTH_SECRET": AUTH_SECRET,
        }
        service = BridgeProcess(variables, tmp_path)
        service.start()
        assert service.process is not None
        assert service.process.wait(30) == 2
    assert len(service.log.splitlines()) == 1
    assert "supabase db push" in service.log

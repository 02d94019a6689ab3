"""How sessions end at WhatsApp, and what the owner of the account is told."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sandbox.stack import StackInfo
from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.stack import eventually
from tests.integration.bridge.conftest import Shop

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize(
    ("fault", "status", "next_action"),
    [("replace", "error", "relink"), ("ban", "blocked", "wait"), ("outdated", "error", "upgrade")],
)
def test_a_terminal_end_waits_for_a_person(
    service: BridgeProcess, shop: Shop, fault: str, status: str, next_action: str
) -> None:
    shop.link()
    shop.simulator.start_fault(fault, number=shop.number)
    row = shop.until_status(status, deadline_s=40)
    assert row["next_action"] == next_action
    assert row["status_detail"]
    [session] = shop.rows("whatsapp_baileys_sessions", integration_account_id=shop.account)
    assert session["auth_state"] is not None
    assert session["desired"] == "stopped"


def test_a_dropped_connection_comes_back_by_itself(service: BridgeProcess, shop: Shop) -> None:
    shop.link()
    shop.simulator.start_fault("drop", number=shop.number)
    shop.receive("after the drop")
    assert shop.ended(shop.send("still there"), deadline_s=40)["status"] == "done"
    assert "after the drop" in shop.texts()


def test_unlinking_on_the_phone_destroys_the_credentials(
    service: BridgeProcess, shop: Shop
) -> None:
    shop.link()
    assert service.process is not None
    shop.simulator.unlink(shop.number)
    row = shop.until_status("logged_out")
    assert (row["next_action"], row["status_reason"]) == ("scan_qr", "logged_out")
    [session] = shop.rows("whatsapp_baileys_sessions", integration_account_id=shop.account)
    assert session["auth_state"] is None


def test_what_could_not_be_recorded_before_the_end_is_recorded_after_it(
    service: BridgeProcess, shop: Shop, stack: StackInfo
) -> None:
    shop.link()
    stack.faults.answer(503, for_s=60, prefix="/rest/v1/rpc/bridge_record_events")
    shop.receive("the last one")
    shop.simulator.unlink(shop.number)
    shop.until_status("logged_out")
    assert shop.texts() == []
    stack.faults.heal()
    # nobody connects it again
    assert eventually(shop.texts, deadline_s=60) == ["the last one"]
    assert shop.face()["status"] == "logged_out"


def test_a_phone_that_is_away_for_days_is_warned_of_and_seen_again(
    service: BridgeProcess, shop: Shop
) -> None:
    shop.link()
    assert shop.face()["phone_last_seen_at"] is not None
    long_ago = {"phone_last_seen_at": "2026-01-01T00:00:00Z"}

    def missed() -> dict[str, Any] | None:
        face = shop.face()
        if face["phone_last_seen_at"] > "2026-02":  # what it tells after it was linked comes late
            only = {"id": f"eq.{shop.account}"}
            shop.http.patch("/rest/v1/integration_accounts", params=only, json=long_ago)
        return face if face["status_reason"] == "phone_offline" else None

    row = eventually(missed, deadline_s=60)
    assert (row["status"], row["next_action"]) == ("connected", "unblock")
    assert "days" in row["status_detail"]
    # the line follows the row
    [event] = eventually(lambda: shop.rows("whatsapp_baileys_events", code="phone_offline"))
    assert (event["level"], event["integration_account_id"]) == ("warning", shop.account)

    def seen_again() -> dict[str, Any] | None:
        # more than once: the engine tells of the phone every two seconds at most, and it was just
        # there, to scan
        shop.simulator.send_text(shop.number, to=shop.customer, text="from the phone itself")
        return face if (face := shop.face())["status_reason"] == "connected" else None

    row = eventually(seen_again, deadline_s=60)
    assert row["phone_last_seen_at"] > "2026-02"

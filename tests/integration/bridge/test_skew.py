"""A bridge whose wall clock is an hour off: leases, claims, times to come and expiry are right."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fixtures.bridge import BridgeProcess, running_bridge
from tests.fixtures.stack import eventually, insert
from tests.integration.bridge.conftest import Row, Shop

pytestmark = pytest.mark.timeout(180)
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
LEASE_S = 10


@pytest.fixture(params=["+1h", "-1h"])
def skewed(
    request: pytest.FixtureRequest, shared_environment: dict[str, str], tmp_path: Path
) -> Iterator[BridgeProcess]:
    if LIBRARY is None:
        pytest.skip("libfaketime is not installed: nothing was tested")
    environment = shared_environment | {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": request.param,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=environment,
        capture_output=True,
        check=True,
    ).stdout
    assert abs(float(told) - time.time()) > 3000, "libfaketime does not work here"
    with running_bridge(environment, tmp_path / "disk") as process:
        yield process


def ahead_s(moment: str) -> float:
    """Seconds from now by the clock of this process, which is that of the database."""
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()


def later(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def send(shop: Shop, text: str, **times: str) -> str:
    payload: Row = {"to": f"+{shop.customer}", "type": "text", "text": text}
    row = {"integration_account_id": shop.account, "type": "send", "payload": payload, **times}
    return str(insert(shop.http, "commands", row)["id"])


def test_times_of_the_database_count(skewed: BridgeProcess, shop: Shop) -> None:
    shop.command("connect", {"method": "qr"})
    face = eventually(lambda: found if (found := shop.face())["last_qr"] else None, deadline_s=40)
    assert 0 < ahead_s(face["qr_expires_at"]) < 180
    shop.simulator.scan(shop.number, face["last_qr"])
    face = shop.until_status("connected", deadline_s=40)
    assert -60 < ahead_s(face["last_connected_at"]) <= 1
    [session] = shop.rows("whatsapp_baileys_sessions", integration_account_id=shop.account)
    assert 0 < ahead_s(session["lease_expires_at"]) <= LEASE_S + 1

    not_yet = send(shop, "in half an hour", run_at=later(1800))
    overdue = send(shop, "never", run_at=later(600), expires_at=later(3))
    soon = send(shop, "soon", run_at=later(2))
    ended = shop.ended(overdue, deadline_s=40)
    assert ended["status"] == "expired"
    assert ended["finished_at"] >= ended["expires_at"]
    ended = shop.ended(soon, deadline_s=40)
    assert (ended["status"], ended["attempts"]) == ("done", 1)
    assert ended["started_at"] >= ended["run_at"]
    shop.receive("Bom dia!")
    eventually(lambda: "Bom dia!" in shop.texts(), deadline_s=40)
    [row] = shop.rows("commands", id=not_yet)
    assert (row["status"], row["attempts"]) == ("pending", 0)
    # the lease was renewed meanwhile, by the same bridge and under the same epoch
    [later_on] = shop.rows("whatsapp_baileys_sessions", integration_account_id=shop.account)
    assert later_on["lease_epoch"] == session["lease_epoch"]
    assert later_on["lease_expires_at"] > session["lease_expires_at"]

"""Restarts of every kind, none of which asks for a QR."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import psutil
import pytest

from tests.acceptance.conftest import Linked, until
from tests.fixtures.bridge import BridgeProcess, running_bridge

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.fixture
def bridge(shared_environment: dict[str, str], tmp_path: Path) -> Iterator[BridgeProcess]:
    """A bridge of each test's own: it is going to be stopped and killed."""
    with running_bridge(shared_environment, tmp_path / "disk") as process:
        yield process


async def came_back(linked: Linked) -> None:
    """Connected again without a QR in between, and both directions decrypt."""
    row = await linked.frontend.until_account(linked.account, "connected", within_s=30)
    assert row["last_qr"] is None
    for _ in range(3):
        await linked.talk_both_ways()


async def test_a_graceful_stop_and_start(bridge: BridgeProcess, linked: Linked) -> None:
    await linked.talk_both_ways()
    assert bridge.stop() == 0
    linked.simulator.send_text(linked.customer, to=linked.number, text="during the deploy")
    bridge.start()
    await came_back(linked)
    await linked.frontend.until_message(conteudo="during the deploy")


async def test_a_graceful_stop_leaves_no_plaintext_session(
    bridge: BridgeProcess, linked: Linked
) -> None:
    bridge.stop()
    left = [p for p in bridge.disk.rglob("*") if p.is_file() and b"SQLite format" in p.read_bytes()]
    assert left == []


async def test_kill_9_of_the_engine(bridge: BridgeProcess, linked: Linked) -> None:
    await linked.talk_both_ways()
    before = (await linked.frontend.row("integration_accounts", id=linked.account))[
        "last_connected_at"
    ]
    for engine in bridge.engines():
        engine.kill()
    await until(
        lambda: linked.frontend.row("integration_accounts", id=linked.account),
        lambda row: row["status"] == "connected" and row["last_connected_at"] != before,
        within_s=30,
    )
    await came_back(linked)


async def test_kill_9_of_the_parent(bridge: BridgeProcess, linked: Linked) -> None:
    await linked.talk_both_ways()
    engines = bridge.engines()
    bridge.stop(signal.SIGKILL)
    assert psutil.wait_procs(engines, timeout=20)[1] == [], "an engine outlived its parent"
    linked.simulator.send_text(linked.customer, to=linked.number, text="while it was dead")
    bridge.start()
    await came_back(linked)
    await linked.frontend.until_message(conteudo="while it was dead")


async def test_an_empty_disk(bridge: BridgeProcess, linked: Linked) -> None:
    await linked.talk_both_ways()
    bridge.stop()
    bridge.lose_disk()
    bridge.start()
    await came_back(linked)


async def test_kill_9_and_an_empty_disk(bridge: BridgeProcess, linked: Linked) -> None:
    for _ in range(5):
        await linked.talk_both_ways()
    bridge.stop(signal.SIGKILL)
    bridge.lose_disk()
    bridge.start()
    await came_back(linked)


async def test_the_bridge_works_without_realtime(bridge: BridgeProcess, linked: Linked) -> None:
    bridge.stop()
    bridge.start(WABRIDGE_REALTIME="off")
    await came_back(linked)


async def test_a_new_key_takes_the_place_of_the_old_one_without_a_qr(
    bridge: BridgeProcess, linked: Linked
) -> None:
    old = bridge.environment["BAILEYS_AUTH_SECRET"]
    new = "new:" + secrets.token_urlsafe(48)
    await linked.talk_both_ways()
    bridge.stop()
    both = {"BAILEYS_AUTH_SECRET": f"{new},{old}"}
    bridge.start(**both)
    await came_back(linked)
    environment = {
        "PATH": os.environ["PATH"],
        **bridge.environment,
        **both,
        "WABRIDGE_STATE_DIR": str(bridge.disk / "state"),
    }
    for _ in range(2):  # while the bridge runs and saves; the second time there is nothing to do
        rotation = await anyio.run_process(
            [sys.executable, "-m", "bridge", "keys", "rotate"],
            env=environment,
            cwd=bridge.disk,
            check=False,  # what it says tells more than its exit code
        )
        said = (rotation.stdout + rotation.stderr).decode()
        assert said.startswith("Sealed anew with key new:"), said
        assert rotation.returncode == 0, said
        await linked.talk_both_ways()
    bridge.stop()
    bridge.start(BAILEYS_AUTH_SECRET=new)
    await came_back(linked)

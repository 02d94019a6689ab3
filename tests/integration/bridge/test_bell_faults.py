"""Realtime on a bad day: commands are executed once, in the time of the timer, and it heals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.sandbox.faults import Faults
from bridge.sandbox.stack import StackInfo
from tests.fixtures.bridge import BridgeProcess, running_bridge
from tests.fixtures.stack import eventually
from tests.integration.bridge.conftest import Shop

pytestmark = pytest.mark.timeout(180)
POLL_S = 2.0
# of a busy machine: claim, send, answer, row
SLACK_S = 8.0
TEXTS = 4
RINGS = "Realtime rings"


@pytest.fixture(scope="module")
def running(
    shared_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BridgeProcess]:
    environment = shared_environment | {"WABRIDGE_POLL_SECONDS": str(POLL_S)}
    directory: Path = tmp_path_factory.mktemp("bell")
    with running_bridge(environment, directory / "disk") as process:
        yield process


@pytest.fixture
def faults(stack: StackInfo) -> Iterator[Faults]:
    yield stack.faults
    stack.faults.heal()


@pytest.mark.parametrize("fault", ["off", "deaf", "mute", "late", "repeating"])
def test_commands_are_executed_once_and_in_time(
    running: BridgeProcess, shop: Shop, faults: Faults, fault: str
) -> None:
    shop.link()
    eventually(lambda: RINGS in running.log)
    rings = running.log.count(RINGS)
    getattr(faults, f"realtime_{fault}")()
    took = []
    for number in range(TEXTS):
        began = time.monotonic()
        ended = shop.ended(shop.send(f"{fault} {number}"))
        took.append(time.monotonic() - began)
        assert (ended["status"], ended["attempts"]) == ("done", 1)
    assert max(took) < POLL_S * 1.25 + SLACK_S
    print(f"{fault}: {', '.join(f'{each:.1f}' for each in took)} s")

    faults.heal()
    if fault in ("off", "deaf", "mute"):  # the client is of no use any more, and was replaced
        eventually(lambda: running.log.count(RINGS) > rings, deadline_s=60)
    rings = running.log.count(RINGS)
    for number in range(TEXTS):
        assert shop.ended(shop.send(f"after {number}"))["status"] == "done"
    assert running.log.count(RINGS) == rings
    told = [message["text"] for message in shop.simulator.inbox(shop.customer) if message["text"]]
    expected = [f"{when} {number}" for when in (fault, "after") for number in range(TEXTS)]
    assert told == expected

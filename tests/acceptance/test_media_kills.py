"""Files survive what kills engine and bridge."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Linked
from tests.acceptance.files import got, put, receive, sample, sha256, stored_bytes, until_file
from tests.fixtures.bridge import BridgeProcess, running_bridge

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.fixture
def bridge(shared_environment: dict[str, str], tmp_path: Path) -> Iterator[BridgeProcess]:
    with running_bridge(shared_environment, tmp_path / "disk") as process:
        yield process


async def until_storage_was_asked(stack: StackInfo, before: int) -> None:
    with anyio.fail_after(20):
        while stack.faults.requests_spoiled == before:
            await anyio.sleep(0.02)


def kill_engines(bridge: BridgeProcess) -> None:
    for process in bridge.engines():
        if "engine" in " ".join(process.cmdline()):
            process.kill()


async def test_files_survive_the_death_of_engine_and_bridge(
    bridge: BridgeProcess, linked: Linked, stack: StackInfo, tmp_path: Path
) -> None:
    files = {}
    before = stack.faults.requests_spoiled
    stack.faults.hang(for_s=60, prefix="/storage/v1")
    try:
        for _ in range(3):
            data, mime_type = sample("document", tmp_path)
            message = await receive(linked, "document", data, mime_type=mime_type)
            files[message["id"]] = data
        await until_storage_was_asked(stack, before)
        kill_engines(bridge)
        bridge.stop(signal.SIGKILL)
    finally:
        stack.faults.heal()
    bridge.start()
    for id_, data in files.items():
        file = await until_file(linked.frontend, id_, within_s=45)
        assert await stored_bytes(linked.frontend, file) == data


async def test_files_that_come_while_engines_die_are_stored(
    bridge: BridgeProcess, linked: Linked, tmp_path: Path
) -> None:
    files = {}
    for _ in range(4):
        data = os.urandom(3_000_000)
        message = await receive(linked, "document", data)
        files[message["id"]] = data
        kill_engines(bridge)
    for id_, data in files.items():
        file = await until_file(linked.frontend, id_, within_s=45)
        assert file["sha256"] == sha256(data)


async def test_a_send_whose_upload_was_cut_off_is_repeated_and_seen_once(
    bridge: BridgeProcess, linked: Linked
) -> None:
    data = os.urandom(40_000_000)
    path = await put(linked, data, "large.bin", "application/octet-stream")
    command = await linked.frontend.insert_command(
        linked.account,
        "send",
        {"to": f"+{linked.customer}", "type": "document", "storage_path": path},
    )
    row = await linked.frontend.row("commands", id=command)
    # the row of the file is written just before the engine uploads it
    await until_file(linked.frontend, row["message_id"])
    kill_engines(bridge)
    ended = await linked.frontend.until_command(command, within_s=60)
    assert ended["status"] == "done", ended
    _, received = await got(linked, ended)
    assert sha256(received) == sha256(data)
    inbox = await anyio.to_thread.run_sync(lambda: linked.simulator.inbox(linked.customer))
    assert len([e for e in inbox if e["kind"] == "message"]) == 1

"""A hundred megabytes in both directions, and what they cost in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Linked, Row
from tests.acceptance.files import got, put, receive, send, sha256, until_file
from tests.fixtures.bridge import BridgeProcess
from tests.unit.media.makers import film

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(240)]
SIZE_BYTES = 100_000_000
MIB = 1024 * 1024


@contextmanager
def peak_growth(process: psutil.Process) -> Iterator[list[float]]:
    """Afterwards: by how many MiB the resident memory was above its beginning, at most."""
    told: list[float] = []
    before = process.memory_info().rss
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
    yield told
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    told.append((peak_kib * 1024 - before) / MIB)


def video(folder: Path) -> bytes:
    """A film, and a lot of nothing behind it, which players skip."""
    start = film(folder / "film.mp4").read_bytes()
    free = SIZE_BYTES - len(start)
    noise = os.urandom(1_000_000)
    box = free.to_bytes(4, "big") + b"free" + (noise * (free // len(noise) + 1))[: free - 8]
    return start + box


def processes(bridge: BridgeProcess) -> tuple[psutil.Process, list[psutil.Process]]:
    assert bridge.process is not None
    engines = [p for p in bridge.engines() if "engine" in " ".join(p.cmdline())]
    return psutil.Process(bridge.process.pid), engines


async def test_a_hundred_megabytes_pass_in_both_directions(
    bridge: BridgeProcess,
    linked: Linked,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    small = film(tmp_path / "small.mp4").read_bytes()
    warm = await receive(linked, "video", small, mime_type="video/mp4")
    await until_file(linked.frontend, warm["id"])
    path = await put(linked, small, "small.mp4", "video/mp4")
    assert (await send(linked, {"type": "video", "storage_path": path}))["status"] == "done"
    parent, engines = processes(bridge)
    engine = max(engines, key=lambda process: process.memory_info().rss)
    data = video(tmp_path)

    with peak_growth(parent) as parent_in, peak_growth(engine) as engine_in:
        message = await receive(linked, "video", data, mime_type="video/mp4")
        file = await until_file(linked.frontend, message["id"], within_s=90)
    assert (file["sha256"], file["size_bytes"]) == (sha256(data), SIZE_BYTES)
    assert file["duration_s"] > 0

    path = await put(linked, data, "film.mp4", "video/mp4")
    with peak_growth(parent) as parent_out, peak_growth(engine) as engine_out:
        command = await send(linked, {"type": "video", "storage_path": path}, within_s=90)
    _, received = await got(linked, command)
    assert sha256(received) == sha256(data)

    figures: Row = {
        "parent_in_mib": round(parent_in[0], 1),
        "engine_in_mib": round(engine_in[0], 1),
        "parent_out_mib": round(parent_out[0], 1),
        "engine_out_mib": round(engine_out[0], 1),
    }
    record_property("memory", figures)
    print(figures)
    assert figures["parent_in_mib"] < 50
    assert figures["engine_in_mib"] < 50
    assert figures["parent_out_mib"] < 50
    assert figures["engine_out_mib"] < 50

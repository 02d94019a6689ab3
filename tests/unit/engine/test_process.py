"""An engine process that does not do what it should is ended all the same."""

from __future__ import annotations

import os
import signal
import sys

import anyio
import pytest

from bridge.engine.process import EngineProcess, ProcessSettings

pytestmark = pytest.mark.anyio

# says hello, and hears nothing afterwards, not even that its parent is gone
DEAF = """
import os, signal, socket, sys
from bridge.engine import frames
signal.signal(signal.SIGTERM, signal.SIG_IGN)
hello = frames.Hello(version=frames.PROTOCOL_VERSION, pid=os.getpid())
parent = socket.socket(fileno=int(sys.argv[-1]))
parent.sendall(frames.encode(hello))
while True:
    signal.pause()
"""


async def test_a_process_that_hears_nothing_is_killed_when_it_is_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.engine.process.END_TIMEOUT_S", 0.1)
    engine = EngineProcess(
        ProcessSettings(
            command=[sys.executable, "-c", DEAF],
            start_timeout_s=30,
            ping_interval_s=0.01,
            ping_timeout_s=30,
        )
    )
    ended = anyio.Event()

    async def run() -> None:
        await engine.run()
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await engine.ready.wait()
        assert engine.alive
        engine.end()
        with anyio.move_on_after(10):
            await ended.wait()
        in_time = ended.is_set()
        if not in_time:
            os.kill(engine.pid, signal.SIGKILL)
    assert in_time

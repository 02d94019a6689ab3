"""The simulator as a child process, for the sandbox and for tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from bridge.sandbox import child
from bridge.sandbox.errors import SandboxError

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LONGEST_LINE = 1 << 16


class SimulatorFailed(SandboxError):
    """The simulator did not start."""

    code = "simulator_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorInfo:
    """A running simulator: where it is steered, and what a client needs to believe it.

    Attributes:
        root_key: the Noise root's public key, hexadecimal.
        pid: its process.
    """

    control_url: str
    websocket_url: str
    proxy_url: str
    ca_file: str
    root_key: str
    pid: int

    def trust_json(self) -> bytes:
        """What ``bridge.sandbox.engine`` reads from its trust file; the same as GET /trust."""
        names = ("websocket_url", "proxy_url", "ca_file", "root_key")
        return msgspec.json.encode({name: getattr(self, name) for name in names})


@asynccontextmanager
async def running_simulator(
    *,
    control_port: int = 0,
    proxy_port: int = 0,
    state: Path | None = None,
    log_level: str = "warning",
) -> AsyncIterator[SimulatorInfo]:
    """Start a simulator, and stop it at the end. It dies with the thread that started it.

    Args:
        control_port: of the control API; 0 is any free port.
        proxy_port: that clients connect to; 0 is any free port.
        state: directory that keeps everything over restarts; without it nothing is kept.
        log_level: of its log, on this process's stderr.

    :raises SimulatorFailed: if it does not start.
    """
    command = [sys.executable, "-I", "-S", str(Path(child.__file__))]
    command += [str(os.getpid()), str(int(signal.SIGTERM)), "-1"]
    command += [sys.executable, "-m", "bridge.sandbox.whatsapp", "--log-level", log_level]
    command += ["--control-port", str(control_port), "--proxy-port", str(proxy_port)]
    if state is not None:
        command += ["--state", str(state)]
    process = await anyio.open_process(
        command,
        stdin=None,
        stderr=None,
        start_new_session=True,  # Ctrl-C at the terminal is the sandbox's to handle, in order
    )
    try:
        yield await _ready(process)
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def _ready(process: Process) -> SimulatorInfo:
    if process.stdout is None:
        raise SimulatorFailed("The WhatsApp simulator has no output.")
    lines = BufferedByteReceiveStream(process.stdout)
    try:
        with anyio.fail_after(_START_TIMEOUT_S):
            line = await lines.receive_until(b"\n", _LONGEST_LINE)
    except (anyio.IncompleteRead, TimeoutError) as error:
        raise SimulatorFailed("The WhatsApp simulator did not start; see its messages.") from error
    return SimulatorInfo(**msgspec.json.decode(line), pid=process.pid)


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    with anyio.move_on_after(_STOP_TIMEOUT_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    if process.stdout is not None:
        await process.stdout.aclose()

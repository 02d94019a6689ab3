"""Run the simulator: ``python -m bridge.sandbox.whatsapp --control-port 54330``.

Prints one JSON line on stdout when it is ready (``control_url`` and what GET /trust says), logs on
stderr, and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
from aiohttp import web

from bridge import log
from bridge.config import LOG_LEVELS
from bridge.sandbox.whatsapp.codec.binary import BinaryCodec
from bridge.sandbox.whatsapp.codec.tokens import TokensMissing, read_tokens
from bridge.sandbox.whatsapp.control.answers import trust_json
from bridge.sandbox.whatsapp.control.app import control_app
from bridge.sandbox.whatsapp.network.anchors import Anchors
from bridge.sandbox.whatsapp.server.chat import ChatServer
from bridge.sandbox.whatsapp.server.media_host import MediaHost
from bridge.sandbox.whatsapp.simulator import Simulator
from bridge.sandbox.whatsapp.state_file import StateKeeper, StateUnreadable, restore

_DEFAULT_CONTROL_PORT = 54330


def main(argv: list[str] | None = None) -> int:
    """Parse, run, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bridge.sandbox.whatsapp", description=__doc__)
    parser.add_argument("--control-port", type=int, default=_DEFAULT_CONTROL_PORT)
    parser.add_argument("--proxy-port", type=int, default=0, help="0: any free port")
    parser.add_argument("--state", type=Path, help="directory that keeps everything over restarts")
    parser.add_argument("--log-level", default="warning", choices=[*LOG_LEVELS, "trace"])
    options = parser.parse_args(argv)
    log.set_up(options.log_level, json_lines=False)
    logging.getLogger("asyncio").addFilter(_tells_something)
    try:
        with _directory(options.state) as directory:
            simulator = _build(directory, keep=options.state is not None)
            state_file = directory / "state.json" if options.state else None
            anyio.run(_run, simulator, state_file, options.control_port, options.proxy_port)
    except (TokensMissing, StateUnreadable, OSError) as error:
        sys.stderr.write(f"The WhatsApp simulator cannot start: {error}\n")
        return 2
    return 0


def _tells_something(record: logging.LogRecord) -> bool:
    """False for what Python 3.11 says at the end of every connection that `start_tls` upgraded."""
    return "eof_received() has no effect" not in record.getMessage()


@contextmanager
def _directory(state: Path | None) -> Iterator[Path]:
    """The state's directory, or one that is gone at the end."""
    if state is not None:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield state
        return
    with tempfile.TemporaryDirectory(prefix="wabridge-simulator-") as temporary:
        yield Path(temporary)


def _build(directory: Path, *, keep: bool) -> Simulator:
    anchors = Anchors.load_or_create(directory / "trust")
    media = MediaHost(directory / "media" if keep else None)
    simulator = Simulator(ChatServer(anchors, BinaryCodec(read_tokens()), media))
    state_file = directory / "state.json"
    if keep and state_file.exists():
        restore(simulator, state_file.read_bytes())
    return simulator


async def _run(
    simulator: Simulator, state_file: Path | None, control_port: int, proxy_port: int
) -> None:
    keeper = StateKeeper(simulator, state_file) if state_file else None
    await simulator.server.start(proxy_port)
    runner = web.AppRunner(control_app(simulator), access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", control_port)
    try:
        await site.start()
        async with anyio.create_task_group() as tasks:
            if keeper:
                tasks.start_soon(keeper.keep)
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                _say_ready(simulator, runner)
                async for _signal in signals:
                    break
            tasks.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(5, shield=True):
            await runner.cleanup()
            await simulator.server.stop()
        if keeper:
            keeper.write_now()


def _say_ready(simulator: Simulator, runner: web.AppRunner) -> None:
    port = runner.addresses[0][1]
    ready = {"control_url": f"http://127.0.0.1:{port}", **trust_json(simulator.server)}
    sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())

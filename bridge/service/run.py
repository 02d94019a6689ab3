"""Nests the lifetimes of all parts, owns the signals and the stop order.

Stop order, which is the nesting read inside out: no more claims → running commands finish → each
account's last events and state are recorded → leases are given back → engines end → the pool of
connections closes. All of it is bounded; a second signal ends the process at once.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
from collections.abc import Sequence
from typing import Any

import anyio
from loguru import logger

from bridge import __version__
from bridge.commands.claimer import Claimer
from bridge.config import Settings
from bridge.engine.host import EngineHost, EngineSettings
from bridge.errors import BridgeError
from bridge.media.workshop import Workshop
from bridge.service.disk import locked, make_private, worker_id
from bridge.service.parts import Parts, Resources, parts_of
from bridge.service.start import checked
from bridge.supabase.client import SupabaseHttp
from bridge.supabase.patience import until_available
from bridge.supabase.rpc import BridgeRpc
from bridge.supabase.storage import Storage
from bridge.vault import Vault

FINISH_COMMANDS_S = 3.0
STOP_ACCOUNTS_S = 5.0
RELEASE_S = 1.5


async def serve(settings: Settings, engine_command: Sequence[str], proxy: str = "") -> None:
    """Run until a signal.

    Args:
        settings: parsed configuration.
        engine_command: how an engine process is started.
        proxy: URL of the HTTP proxy that leads to WhatsApp; empty = there is none.

    Raises:
        ConfigError: before anything was started or changed.
    """
    vault = Vault.from_secret(settings.auth_secret)
    make_private(settings.state_dir, "WABRIDGE_STATE_DIR")
    make_private(settings.session_dir, "WABRIDGE_SESSION_DIR")
    with locked(settings.state_dir):
        async with SupabaseHttp(settings.supabase_url, settings.service_key) as http:
            rpc = BridgeRpc(http, worker_id(settings.state_dir))
            check = await checked(rpc, vault, settings.supabase_url)
            http.trust()
            info = _info(settings)
            await until_available(lambda: rpc.register_worker(info), what="register")
            logger.info("The database is ready", schema=check.schema_version)
            host = EngineHost(
                EngineSettings(
                    command=engine_command,
                    state_dir=settings.state_dir,
                    session_dir=settings.session_dir,
                    accounts_per_engine=settings.accounts_per_engine,
                    memory_max_bytes=settings.engine_memory_mb << 20,
                    proxy=proxy,
                )
            )
            storage = Storage(settings.supabase_url, settings.service_key)
            async with host, storage, Workshop() as workshop:
                have = Resources(
                    rpc=rpc, vault=vault, host=host, storage=storage, workshop=workshop, info=info
                )
                await _run(parts_of(settings, have), rpc)
    logger.info("The bridge stopped")


async def _run(parts: Parts, rpc: BridgeRpc) -> None:
    stop, claims_ended = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch_signals, stop, name="signals")
        # not before: who reads this may send a signal, and nothing is held until now
        logger.info("The bridge runs", worker=rpc.worker, version=__version__)
        await tasks.start(parts.supervisor.run, name="supervisor")
        for name, run in parts.others.items():
            tasks.start_soon(run, name=name)
        tasks.start_soon(_claim, parts.claimer, claims_ended, name="claims")
        await stop.wait()
        await _stop_in_order(parts, claims_ended, rpc)
        tasks.cancel_scope.cancel()


async def _claim(claimer: Claimer, ended: anyio.Event) -> None:
    await claimer.run()
    ended.set()


async def _stop_in_order(parts: Parts, claims_ended: anyio.Event, rpc: BridgeRpc) -> None:
    parts.keeper.take_no_more()
    parts.claimer.stop()
    with anyio.move_on_after(FINISH_COMMANDS_S):
        await claims_ended.wait()
    late = await parts.supervisor.stop(STOP_ACCOUNTS_S)
    if late:
        # their sessions are closing still: another host may come when the leases have run out
        logger.warning("Some accounts did not end in time", accounts=len(late))
    # most are given back already; a worker without accounts of its own leaves nothing behind
    if held := {*parts.keeper.held} - {*late}:
        with anyio.move_on_after(RELEASE_S):
            try:
                await rpc.release_leases(sorted(held))
            except BridgeError:
                logger.warning("Leases could not be given back; they run out by themselves")


async def _watch_signals(stop: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                logger.warning("Second signal: ending at once")
                os._exit(128 + number)
            logger.info("Stopping", signal=signal.Signals(number).name)
            stop.set()


def _info(settings: Settings) -> dict[str, Any]:
    return {
        "hostname": socket.gethostname(),
        "version": __version__,
        "pid": os.getpid(),
        "capacity": settings.capacity,
        "python": platform.python_version(),
    }

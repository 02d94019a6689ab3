"""Builds every part, nests their lifetimes, owns the signals and the stop order.

Stop order, which is the nesting read inside out: no more claims → running commands finish → each
account's last events and state are recorded → leases are given back → engines end → the pool of
connections closes. All of it is bounded; a second signal ends the process at once.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
from loguru import logger

from bridge import __version__
from bridge.accounts.connect_rate import ConnectRate
from bridge.accounts.history import HistoryImport
from bridge.accounts.leases import LeaseKeeper
from bridge.accounts.ledger import SendLedger
from bridge.accounts.leftovers import Leftovers
from bridge.accounts.supervisor import Supervisor
from bridge.accounts.surroundings import Surroundings
from bridge.accounts.typists import Typists
from bridge.commands.claimer import Claimer
from bridge.commands.executor import Executor
from bridge.config import Settings
from bridge.engine.host import EngineHost, EngineSettings, Session
from bridge.errors import SupabaseUnavailable
from bridge.heartbeat import keep_beating
from bridge.ids import AccountId, LeaseEpoch, SpoolPosition
from bridge.ingest import Ingest, Pumping
from bridge.media.avatars import Avatars
from bridge.media.fetch import Fetcher
from bridge.media.incoming import Downloads, sealer
from bridge.media.old_pictures import OldPictures
from bridge.media.outgoing import Outbox
from bridge.media.previews import Previews
from bridge.media.workshop import Workshop
from bridge.service.disk import emptied, locked, make_private, worker_id
from bridge.service.load import HostLoad
from bridge.service.start import checked
from bridge.supabase.answers import Recorded
from bridge.supabase.client import SupabaseHttp
from bridge.supabase.doorbell import Doorbell
from bridge.supabase.patience import until_available
from bridge.supabase.rpc import BridgeRpc
from bridge.supabase.storage import Storage
from bridge.vault import Vault

# Sends wait for WhatsApp's answer, each in a slot of its own.
SLOTS_PER_ACCOUNT = 4
MIN_SLOTS = 50
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
                await _run_parts(settings, rpc, vault, host, info, storage, workshop)
    logger.info("The bridge stopped")


async def _run_parts(
    settings: Settings,
    rpc: BridgeRpc,
    vault: Vault,
    host: EngineHost,
    info: dict[str, Any],
    storage: Storage,
    workshop: Workshop,
) -> None:
    folder = emptied(settings.state_dir / "media")

    def files_came() -> None:
        downloads.ring()

    ingest = Ingest(rpc, seal=sealer(vault), files_came=files_came)

    async def record(
        session: Session,
        ledger: SendLedger,
        *,
        before_sent: Callable[[], Awaitable[None]],
        on_recorded: Callable[[SpoolPosition], None],
    ) -> None:
        await ingest.pump(
            Pumping(feed=session, outcomes=ledger, before_sent=before_sent, on_recorded=on_recorded)
        )

    class LateRecords:
        """Facts for an account that another host holds now."""

        async def record_events(
            self, account: AccountId, epoch: LeaseEpoch, events: Sequence[dict[str, Any]]
        ) -> Recorded:
            return await rpc.record_late(account, epoch, events)

    late = Ingest(LateRecords(), seal=sealer(vault), files_came=files_came)

    async def record_late(session: Session) -> None:
        await late.pump(
            Pumping(
                feed=session,
                outcomes=SendLedger(),
                before_sent=anyio.lowlevel.checkpoint,
                on_recorded=lambda _: None,
            )
        )

    async def record_history(session: Session, linked: anyio.Event | None) -> None:
        await HistoryImport(rpc, session, seal=sealer(vault), recorded=files_came).run(linked)

    def ring_for_claims() -> None:
        claimer.ring()

    typists = Typists(rpc)
    supervisor = Supervisor(
        Surroundings(
            rpc=rpc,
            host=host,
            vault=vault,
            record=record,
            ring=ring_for_claims,
            record_history=record_history,
            connect_rate=ConnectRate(settings.connects_per_s),
            typing=typists.tell,
        )
    )
    downloads = Downloads(rpc, storage, vault, supervisor, workshop, folder)
    avatars = Avatars(rpc, storage, supervisor, workshop, folder)
    fetcher = Fetcher(folder)
    outbox = Outbox(rpc, storage, fetcher, workshop, folder)
    keeper = LeaseKeeper(
        rpc, capacity=settings.capacity, lease_s=settings.lease_s, apply=supervisor.apply
    )

    def ring() -> None:
        claimer.ring()
        keeper.ring()

    doorbell = Doorbell(settings.supabase_url, settings.service_key, ring)
    claimer = Claimer(
        rpc,
        Executor(
            rpc,
            supervisor,
            outbox,
            previews=Previews(fetcher, workshop),
            pictures=outbox.picture,
            avatars=avatars.refresh,
        ).execute,
        slots=max(MIN_SLOTS, SLOTS_PER_ACCOUNT * settings.capacity),
        poll_interval_s=settings.poll_interval_s,
        found=doorbell.found if settings.realtime else lambda _age_s: None,
    )
    supervisor.on_grown = claimer.ring
    leftovers = Leftovers(rpc, host, vault, held=lambda: supervisor.held, record=record_late)
    supervisor.on_lost = leftovers.ring
    stop = anyio.Event()
    async with anyio.create_task_group() as parts:
        await parts.start(_watch_signals, stop, name="signals")
        # not before: who reads this may send a signal, and nothing is held until now
        logger.info("The bridge runs", worker=rpc.worker, version=__version__)
        await parts.start(supervisor.run, name="supervisor")
        parts.start_soon(keeper.keep, name="leases")
        load = HostLoad(rpc, settings.state_dir, supervisor.load)
        parts.start_soon(keep_beating, rpc, info, load, name="heartbeat")
        if settings.realtime:
            parts.start_soon(doorbell.keep, name="doorbell")
        parts.start_soon(downloads.run, name="files of messages")
        parts.start_soon(leftovers.keep, name="leftovers")
        parts.start_soon(typists.run, name="who types")
        parts.start_soon(avatars.run, name="pictures of people")
        parts.start_soon(OldPictures(rpc, storage).run, name="old pictures")
        claims_ended = anyio.Event()
        parts.start_soon(_claim, claimer, claims_ended, name="claims")
        await stop.wait()
        await _stop_in_order(claimer, claims_ended, supervisor, keeper, rpc)
        parts.cancel_scope.cancel()


async def _claim(claimer: Claimer, ended: anyio.Event) -> None:
    await claimer.run()
    ended.set()


async def _stop_in_order(
    claimer: Claimer,
    claims_ended: anyio.Event,
    supervisor: Supervisor,
    keeper: LeaseKeeper,
    rpc: BridgeRpc,
) -> None:
    keeper.take_no_more()
    claimer.stop()
    with anyio.move_on_after(FINISH_COMMANDS_S):
        await claims_ended.wait()
    late = await supervisor.stop(STOP_ACCOUNTS_S)
    if late:
        # their sessions are closing still: another host may come when the leases have run out
        logger.warning("Some accounts did not end in time", accounts=len(late))
    # most are given back already; a worker without accounts of its own leaves nothing behind
    if held := {*keeper.held} - {*late}:
        with anyio.move_on_after(RELEASE_S):
            try:
                await rpc.release_leases(sorted(held))
            except SupabaseUnavailable:
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

"""What a bridge is made of: every part, given what it needs of the others.

What wakes whom is made first (`Bell`), so nobody has to know who rings for him, and the parts can
be made one after the other. Nothing runs yet: `service.run` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bridge.accounts.connect_rate import ConnectRate
from bridge.accounts.leases import LeaseKeeper
from bridge.accounts.leftovers import Leftovers
from bridge.accounts.supervisor import Supervisor
from bridge.accounts.surroundings import Surroundings
from bridge.accounts.typists import Typists
from bridge.bell import Bell
from bridge.commands.claimer import Claimer
from bridge.commands.executor import Executor
from bridge.config import Settings
from bridge.engine.host import EngineHost
from bridge.heartbeat import keep_beating
from bridge.ingest import Ingest
from bridge.media.avatars import Avatars
from bridge.media.fetch import Fetcher
from bridge.media.incoming import Downloads, sealer
from bridge.media.old_pictures import OldPictures
from bridge.media.outgoing import Outbox
from bridge.media.previews import Previews
from bridge.media.workshop import Workshop
from bridge.service.disk import emptied
from bridge.service.load import HostLoad
from bridge.supabase.doorbell import Doorbell
from bridge.supabase.rpc import BridgeRpc
from bridge.supabase.storage import Storage
from bridge.vault import Vault

# Sends wait for WhatsApp's answer, each in a slot of its own.
SLOTS_PER_ACCOUNT = 4
MIN_SLOTS = 50

Run = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What is open as long as the bridge runs.

    Attributes:
        info: who this worker is, for the database.
    """

    rpc: BridgeRpc
    vault: Vault
    host: EngineHost
    storage: Storage
    workshop: Workshop
    info: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What runs.

    Attributes:
        claimer, supervisor, keeper: these are stopped in order.
        others: by name; they run until they are cancelled.
    """

    claimer: Claimer
    supervisor: Supervisor
    keeper: LeaseKeeper
    others: Mapping[str, Run]


def parts_of(settings: Settings, have: Resources) -> Parts:
    """Build all of them."""
    rpc, storage, workshop = have.rpc, have.storage, have.workshop
    folder = emptied(settings.state_dir / "media")
    claims, leases, files, losses = Bell(), Bell(), Bell(), Bell()
    seal = sealer(have.vault)
    typists = Typists(rpc)
    supervisor = Supervisor(
        Surroundings(
            rpc=rpc,
            host=have.host,
            files=have.host.files,
            vault=have.vault,
            record=Ingest(rpc.record_events, seal=seal, files_came=files.ring).pump,
            seal=seal,
            files_came=files.ring,
            ring=claims.ring,
            lost=losses.ring,
            typing=typists.tell,
            connect_rate=ConnectRate(settings.connects_per_s),
        )
    )
    keeper = LeaseKeeper(
        rpc,
        bell=leases,
        capacity=settings.capacity,
        lease_s=settings.lease_s,
        apply=supervisor.apply,
    )
    leftovers = Leftovers(
        rpc,
        have.host,
        have.vault,
        bell=losses,
        held=lambda: supervisor.held,
        record=Ingest(rpc.record_late, seal=seal, files_came=files.ring).pump,
    )
    downloads = Downloads(rpc, storage, have.vault, supervisor, workshop, folder, files)
    avatars = Avatars(rpc, storage, supervisor, workshop, folder)
    fetcher = Fetcher(folder)
    outbox = Outbox(rpc, storage, fetcher, workshop, folder)
    executor = Executor(
        rpc,
        supervisor,
        files=outbox,
        previews=Previews(fetcher, workshop),
        pictures=outbox.picture,
        avatars=avatars.refresh,
    )
    doorbell = Doorbell(settings.supabase_url, settings.service_key, claims.ring, leases.ring)
    claimer = Claimer(
        rpc,
        executor.execute,
        bell=claims,
        slots=max(MIN_SLOTS, SLOTS_PER_ACCOUNT * settings.capacity),
        poll_interval_s=settings.poll_interval_s,
        found=doorbell.found,
    )
    load = HostLoad(rpc, settings.state_dir, supervisor.load)
    others: dict[str, Run] = {
        "leases": keeper.keep,
        "heartbeat": partial(keep_beating, rpc, have.info, load),
        "files of messages": downloads.run,
        "leftovers": leftovers.keep,
        "who types": typists.run,
        "pictures of people": avatars.run,
        "old pictures": OldPictures(rpc, storage).run,
    }
    if settings.realtime:
        others["doorbell"] = doorbell.keep
    return Parts(claimer=claimer, supervisor=supervisor, keeper=keeper, others=others)

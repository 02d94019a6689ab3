"""Received files are fetched, stored and finished; what fails is tried again or given up."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bridge.bell import Bell
from bridge.errors import CommandError, LeaseLost
from bridge.ids import AccountId, LeaseEpoch
from bridge.media.incoming import MAX_ATTEMPTS, PURPOSE, Downloads, sealer
from bridge.media.workshop import Workshop
from bridge.orders import DownloadMedia, Request
from bridge.supabase.answers import ClaimedAttachment, FileEnd
from bridge.supabase.client import RequestRefused
from bridge.supabase.storage import StorageUnavailable
from bridge.vault import Vault
from tests.unit.media.makers import picture

pytestmark = pytest.mark.anyio

VAULT = Vault.from_secret("a secret of sufficient length")
ACCOUNT = AccountId("33333333-3333-4333-8333-333333333333")
WORKSPACE = "11111111-1111-4111-8111-111111111111"
PHOTO = picture("JPEG")


def claimed(**more: Any) -> ClaimedAttachment:
    given: dict[str, Any] = {
        "id": "a1",
        "account_id": ACCOUNT,
        "workspace_id": WORKSPACE,
        "lease_epoch": LeaseEpoch(1),
        "conversation_id": "44444444-4444-4444-8444-444444444444",
        "message_id": "55555555-5555-4555-8555-555555555555",
        "kind": "image",
        "mime_type": "image/jpeg",
        "sealed": sealer(VAULT)(ACCOUNT, {"directPath": "/x"}),
        "attempts": 1,
    }
    return ClaimedAttachment(**(given | more))


class World:
    """Database, bucket and account in one."""

    def __init__(self) -> None:
        self.queue: list[ClaimedAttachment] = []
        self.ended: list[tuple[FileEnd, dict[str, Any]]] = []
        self.news = anyio.Event()
        self.known: str | None = None
        self.told_known: list[list[str]] = []
        self.stored: dict[str, bytes] = {}
        self.orders: list[DownloadMedia] = []
        self.fault: Exception | None = None
        self.bucket_fault: Exception | None = None
        self.runs_here = True
        self.refusals: list[Exception] = []

    async def claim_attachments(self, limit: int, known: Sequence[str]) -> list[ClaimedAttachment]:
        self.told_known.append(list(known))
        if self.refusals:
            raise self.refusals.pop()
        taken, self.queue = self.queue[:limit], self.queue[limit:]
        return taken

    async def find_stored_file(
        self, account: AccountId, epoch: LeaseEpoch, sha256: str
    ) -> str | None:
        return self.known

    async def finish_attachment(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        attachment: str,
        status: FileEnd,
        **more: Any,
    ) -> bool:
        self.ended.append((status, more))
        self.news.set()
        self.news = anyio.Event()
        return True

    async def upload(self, path: str, file: Path, *, mime_type: str) -> None:
        if self.bucket_fault is not None:
            raise self.bucket_fault
        self.stored[path] = await anyio.Path(file).read_bytes()

    async def find(self, account_id: AccountId, epoch: LeaseEpoch, *, within_s: float) -> Any:
        return self if self.runs_here else None

    async def ask(self, order: Request) -> Any:
        assert isinstance(order, DownloadMedia)
        self.orders.append(order)
        if self.fault is not None:
            raise self.fault
        await anyio.Path(order.path).write_bytes(PHOTO)
        return {"size_bytes": len(PHOTO), "sha256": hashlib.sha256(PHOTO).hexdigest()}

    async def until_ended(self, count: int = 1) -> tuple[FileEnd, dict[str, Any]]:
        with anyio.fail_after(10):
            while len(self.ended) < count:
                await self.news.wait()
        return self.ended[count - 1]


Running = Callable[..., Any]


@pytest.fixture
def running(workshop: Workshop, folder: Path) -> Running:
    @asynccontextmanager
    async def run(world: World) -> AsyncIterator[Bell]:
        bell = Bell()
        downloads = Downloads(
            world, world, VAULT, world, workshop, folder, bell, slots=2, poll_interval_s=0.05
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(downloads.run)
            yield bell
            tasks.cancel_scope.cancel()
        assert list(folder.iterdir()) == [], "nothing is left behind"

    return run


async def test_a_file_is_fetched_looked_at_and_stored(running: Running) -> None:
    world = World()
    world.queue = [claimed(file_name="../é\u202e.jpg")]
    async with running(world):
        status, end = await world.until_ended()
    assert status == "stored"
    assert list(world.stored.values()) == [PHOTO]
    facts = end["facts"]
    assert facts["path"] in world.stored
    assert facts["path"].startswith(f"{WORKSPACE}/{ACCOUNT}/")
    assert facts["file_name"] == "..%2Fé%E2%80%AE.jpg"
    assert (facts["width"], facts["mime_type"]) == (64, "image/jpeg")
    (order,) = world.orders
    assert order.message == b'{"directPath":"/x"}'
    assert order.max_bytes == 16 * 1024 * 1024


async def test_content_says_what_is_stored_not_the_sender(running: Running) -> None:
    world = World()
    world.queue = [claimed(kind="document", mime_type="text/html", file_name="x.html")]
    async with running(world):
        _, end = await world.until_ended()
    assert end["facts"]["mime_type"] == "image/jpeg"


async def test_known_bytes_are_not_stored_again(running: Running) -> None:
    world = World()
    world.known = "where/it/is"
    world.queue = [claimed()]
    async with running(world):
        status, end = await world.until_ended()
    assert (status, end["facts"]["path"], world.stored) == ("stored", "where/it/is", {})


@pytest.mark.parametrize(
    ("fault", "attempts", "status", "counts"),
    [
        (CommandError("Gone.", code="media_expired"), 1, "expired", True),
        (CommandError("Broken.", code="media_broken"), 1, "failed", True),
        (CommandError("Later.", code="media_unavailable", retryable=True), 1, "pending", True),
        (
            CommandError("Later.", code="media_unavailable", retryable=True),
            MAX_ATTEMPTS,
            "failed",
            True,
        ),
        (CommandError("Connecting.", code="not_connected", retryable=True), 99, "pending", False),
        (RuntimeError("a fault of ours"), 1, "pending", True),
    ],
)
async def test_what_becomes_of_a_file_that_cannot_be_fetched(
    running: Running, fault: Exception, attempts: int, status: str, counts: bool
) -> None:
    world = World()
    world.fault = fault
    world.queue = [claimed(attempts=attempts)]
    async with running(world):
        ended, end = await world.until_ended()
    assert (ended, end["counts"]) == (status, counts)
    assert end["error"].endswith(".")


async def test_too_large_is_refused_before_anything_is_fetched(running: Running) -> None:
    world = World()
    world.queue = [claimed(kind="video", size_bytes=2_000_000_000)]
    async with running(world):
        status, end = await world.until_ended()
    assert (status, world.orders) == ("failed", [])
    assert "larger than the 100 MB" in end["error"]


async def test_while_storage_is_away_nothing_else_is_fetched(running: Running) -> None:
    world = World()
    world.bucket_fault = StorageUnavailable()
    world.queue = [claimed(id=str(n)) for n in range(10)]
    async with running(world):
        status, end = await world.until_ended(2)
        assert (status, end["counts"]) == ("pending", False)
        await anyio.wait_all_tasks_blocked()
        assert len(world.orders) <= 4
        world.bucket_fault = None
        await world.until_ended(10)
    assert world.ended[-1][0] == "stored"


async def test_a_claim_names_what_is_being_fetched_and_nothing_else(running: Running) -> None:
    world = World()
    fetching = anyio.Event()
    going_on = anyio.Event()

    async def slow(path: str, file: Path, *, mime_type: str) -> None:
        fetching.set()
        await going_on.wait()

    world.upload = slow  # type: ignore[method-assign]
    world.queue = [claimed(id="1")]
    async with running(world) as bell:
        with anyio.fail_after(10):
            await fetching.wait()
            asked = len(world.told_known)
            bell.ring()
            while len(world.told_known) == asked:
                await anyio.wait_all_tasks_blocked()
            assert world.told_known[-1] == ["1"]
            going_on.set()
            await world.until_ended()
            while world.told_known[-1]:
                await anyio.wait_all_tasks_blocked()


async def test_a_lost_lease_leaves_the_file_and_the_others_go_on(running: Running) -> None:
    world = World()
    world.fault = LeaseLost("Another host runs this account now.")
    world.queue = [claimed(id="1")]
    async with running(world) as bell:
        with anyio.fail_after(10):
            while not world.orders:
                await anyio.wait_all_tasks_blocked()
        world.fault = None
        world.queue = [claimed(id="2")]
        bell.ring()
        await world.until_ended()
    assert [status for status, _ in world.ended] == ["stored"]


async def test_a_claim_that_the_database_refuses_does_not_end_the_bridge(running: Running) -> None:
    world = World()
    world.refusals = [RequestRefused("One row of a million is odd.", "XX000")]
    world.queue = [claimed()]
    async with running(world):
        assert (await world.until_ended())[0] == "stored"


async def test_a_key_of_another_account_opens_nothing(running: Running) -> None:
    world = World()
    other = AccountId("99999999-9999-4999-8999-999999999999")
    world.queue = [claimed(sealed=sealer(VAULT)(other, {"directPath": "/x"}), attempts=99)]
    async with running(world):
        status, _ = await world.until_ended()
    assert (status, world.orders) == ("failed", [])
    assert PURPOSE == "media"

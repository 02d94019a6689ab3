"""Pictures of people are fetched one by one, stored once, and given up after a few attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bridge.errors import CommandError, LeaseLost
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch
from bridge.media.avatars import MAX_ATTEMPTS, Avatars
from bridge.media.workshop import Workshop
from bridge.orders import FetchPicture, Request
from bridge.supabase.answers import ClaimedPicture, PictureEnd
from bridge.supabase.storage import StorageUnavailable
from tests.unit.media.makers import picture

pytestmark = pytest.mark.anyio

ACCOUNT = AccountId("33333333-3333-4333-8333-333333333333")
WORKSPACE = "11111111-1111-4111-8111-111111111111"
PHOTO = picture("JPEG")
SHA256 = "ab" * 32
PATH = f"{WORKSPACE}/{ACCOUNT}/avatars/{SHA256[:32]}.jpg"


def claimed(**more: Any) -> ClaimedPicture:
    given: dict[str, Any] = {
        "id": "p1",
        "account_id": ACCOUNT,
        "workspace_id": WORKSPACE,
        "lease_epoch": LeaseEpoch(1),
        "jid": Jid("111@lid"),
        "attempts": 1,
        "picture_id": "old",
    }
    return ClaimedPicture(**(given | more))


class World:
    """Database, bucket and account in one."""

    def __init__(self, content: bytes = PHOTO, state: str = "fetched") -> None:
        self.queue: list[ClaimedPicture] = []
        self.ended: list[tuple[PictureEnd, dict[str, Any]]] = []
        self.told_known: list[str] = []
        self.news = anyio.Event()
        self.stored: dict[str, bytes] = {}
        self.orders: list[FetchPicture] = []
        self.content, self.state = content, state
        self.fault: Exception | None = None
        self.bucket_fault: Exception | None = None
        self.runs_here = True

    async def claim_pictures(self, known: Sequence[str]) -> list[ClaimedPicture]:
        self.told_known = list(known)
        taken, self.queue = self.queue, []
        return taken

    async def claim_picture(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId
    ) -> ClaimedPicture | None:
        return self.queue.pop() if self.queue else None

    async def finish_picture(self, claimed: ClaimedPicture, state: PictureEnd, **more: Any) -> bool:
        self.ended.append((state, more))
        self.news.set()
        return True

    async def find(
        self, account_id: AccountId, epoch: LeaseEpoch, *, within_s: float
    ) -> World | None:
        return self if self.runs_here else None

    async def ask(self, order: Request) -> Any:
        assert isinstance(order, FetchPicture)
        self.orders.append(order)
        if self.fault is not None:
            raise self.fault
        if self.state != "fetched":
            return {"state": self.state}
        Path(order.path).write_bytes(self.content)
        return {"state": "fetched", "id": "new", "sha256": SHA256, "size_bytes": len(PHOTO)}

    async def upload(self, path: str, file: Path, *, mime_type: str) -> None:
        if self.bucket_fault is not None:
            raise self.bucket_fault
        self.stored[path] = file.read_bytes()


@asynccontextmanager
async def avatars(world: World, folder: Path) -> AsyncIterator[Avatars]:
    async with Workshop() as workshop:
        yield Avatars(world, world, world, workshop, folder, pace_s=0.01)


async def ended(
    world: World, folder: Path, picture: ClaimedPicture
) -> tuple[PictureEnd, dict[str, Any]]:
    """How one picture ends that is claimed in turn; no file is left behind."""
    world.queue.append(picture)
    async with avatars(world, folder) as fetching, anyio.create_task_group() as tasks:
        tasks.start_soon(fetching.run)
        with anyio.fail_after(20):
            await world.news.wait()
        tasks.cancel_scope.cancel()
    assert list(folder.iterdir()) == []
    [end] = world.ended
    return end


async def test_a_picture_is_stored_under_its_content(tmp_path: Path) -> None:
    world = World()
    state, more = await ended(world, tmp_path, claimed())
    assert (state, more["path"], more["picture_id"]) == ("stored", PATH, "new")
    assert world.stored == {PATH: PHOTO}
    assert (world.orders[0].of, world.orders[0].known_id) == ("111@lid", "old")


@pytest.mark.parametrize("answer", ["unchanged", "none", "hidden"])
async def test_answers_without_a_file_are_kept(tmp_path: Path, answer: str) -> None:
    world = World(state=answer)
    state, more = await ended(world, tmp_path, claimed())
    assert (state, more, world.stored) == (answer, {}, {})


async def test_what_is_no_picture_is_not_stored(tmp_path: Path) -> None:
    world = World(content=b"<html>not found</html>")
    assert (await ended(world, tmp_path, claimed()))[0] == "failed"
    assert world.stored == {}


async def test_a_failure_is_tried_a_few_times(tmp_path: Path) -> None:
    world = World()
    world.fault = CommandError("Slow.", code="whatsapp_timeout", retryable=True)
    state, more = await ended(world, tmp_path, claimed())
    assert (state, more["counts"]) == ("pending", True)
    assert 30 <= more["retry_in_s"] <= 60
    last = World()
    last.fault = world.fault
    assert (await ended(last, tmp_path, claimed(attempts=MAX_ATTEMPTS)))[0] == "failed"


async def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    world = World()
    world.fault = CommandError("No.", code="rejected_by_whatsapp")
    assert (await ended(world, tmp_path, claimed()))[0] == "failed"


@pytest.mark.parametrize("away", ["account", "storage", "connection"])
async def test_waiting_costs_no_attempt(tmp_path: Path, away: str) -> None:
    world = World()
    world.runs_here = away != "account"
    if away == "storage":
        world.bucket_fault = StorageUnavailable()
    if away == "connection":
        world.fault = CommandError("Not now.", code="not_connected", retryable=True)
    state, more = await ended(world, tmp_path, claimed(attempts=MAX_ATTEMPTS + 5))
    assert (state, more["counts"]) == ("pending", False)


async def test_a_crash_costs_one_picture(tmp_path: Path) -> None:
    world = World()
    world.fault = RuntimeError("a bug")
    assert (await ended(world, tmp_path, claimed()))[0] == "pending"


async def test_a_refresh_tells_how_it_ended_or_why_not(tmp_path: Path) -> None:
    world = World()
    epoch, command = LeaseEpoch(1), CommandId("c")
    async with avatars(world, tmp_path) as fetching:
        with pytest.raises(CommandError, match="not known here"):
            await fetching.refresh(ACCOUNT, epoch, command)
        world.queue.append(claimed())
        assert await fetching.refresh(ACCOUNT, epoch, command) == "stored"
        world.queue.append(claimed())
        world.fault = CommandError("Slow.", code="whatsapp_timeout", retryable=True)
        with pytest.raises(CommandError, match="Slow"):
            await fetching.refresh(ACCOUNT, epoch, command)
        world.queue.append(claimed())
        world.fault = LeaseLost("Gone.")
        with pytest.raises(LeaseLost):
            await fetching.refresh(ACCOUNT, epoch, command)
    assert [state for state, _ in world.ended] == ["stored", "pending"]


async def test_a_picture_that_a_command_wants_is_not_fetched_in_its_turn_as_well(
    tmp_path: Path,
) -> None:
    world = World()
    asked = anyio.Event()
    going_on = anyio.Event()

    async def slow(path: str, file: Path, *, mime_type: str) -> None:
        asked.set()
        await going_on.wait()

    world.upload = slow  # type: ignore[method-assign]
    world.queue.append(claimed())
    async with avatars(world, tmp_path) as fetching, anyio.create_task_group() as tasks:
        tasks.start_soon(fetching.refresh, ACCOUNT, LeaseEpoch(1), CommandId("c"))
        with anyio.fail_after(20):
            await asked.wait()
            tasks.start_soon(fetching.run)
            while world.told_known != ["p1"]:
                await anyio.wait_all_tasks_blocked()
            going_on.set()
            while world.told_known:
                await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

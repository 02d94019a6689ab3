"""Files of old pictures are forgotten when they are deleted, and not before."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from bridge.errors import CommandError
from bridge.media.old_pictures import OldPictures
from bridge.supabase.answers import OldPicture
from bridge.supabase.storage import StorageRefused, StorageUnavailable

pytestmark = pytest.mark.anyio


class World:
    """Database and bucket in one."""

    def __init__(self) -> None:
        self.old = {"1": "w/a/avatars/1.jpg", "2": "w/a/avatars/2.jpg"}
        self.bucket = {*self.old.values(), "w/a/avatars/3.jpg"}
        self.faults: list[CommandError] = []
        self.done = anyio.Event()

    async def claim_old_pictures(self) -> list[OldPicture]:
        if not self.old:
            self.done.set()
        return [OldPicture(id=id_, path=path) for id_, path in self.old.items()]

    async def forget_old_pictures(self, ids: Sequence[str]) -> None:
        for each in ids:
            assert self.old.pop(each) not in self.bucket

    async def remove(self, paths: Sequence[str]) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.bucket -= set(paths)


async def test_what_cannot_be_deleted_is_tried_again() -> None:
    world = World()
    world.faults = [StorageUnavailable(), StorageRefused("No.")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(OldPictures(world, world, pause_s=0.01).run)
        with anyio.fail_after(5):
            await world.done.wait()
        tasks.cancel_scope.cancel()
    assert world.faults == []
    assert world.bucket == {"w/a/avatars/3.jpg"}

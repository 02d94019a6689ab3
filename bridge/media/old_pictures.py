"""Files of pictures that nobody shows any more: deleted from the bucket, some a minute.

The database says which, and says it again until it hears that they are gone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import anyio
from loguru import logger

from bridge.errors import BridgeError
from bridge.media.attempts import given_out
from bridge.supabase.answers import OldPicture
from bridge.supabase.patience import until_available

PAUSE_S = 15.0


class OldPicturesRpc(Protocol):
    """What is needed of the database."""

    async def claim_old_pictures(self) -> list[OldPicture]:
        """Take some files that may be deleted."""

    async def forget_old_pictures(self, ids: Sequence[str]) -> None:
        """They are deleted."""


class Removes(Protocol):
    """What is needed of the bucket."""

    async def remove(self, paths: Sequence[str]) -> None:
        """Delete files; those that are not there count as deleted."""


class OldPictures:
    """Sweeps for all accounts, on every host."""

    def __init__(self, rpc: OldPicturesRpc, bucket: Removes, *, pause_s: float = PAUSE_S) -> None:
        self._rpc = rpc
        self._bucket = bucket
        self._pause_s = pause_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(random.uniform(0.7, 1.3) * self._pause_s)  # noqa: S311 - no secret
            old = await given_out(self._rpc.claim_old_pictures, what="claim old pictures")
            if old:
                await self._delete(old)

    async def _delete(self, old: Sequence[OldPicture]) -> None:
        try:
            await self._bucket.remove([each.path for each in old])
            ids = [each.id for each in old]
            await until_available(
                lambda: self._rpc.forget_old_pictures(ids), what="forget old pictures"
            )
        except BridgeError as fault:
            logger.info("Old pictures are deleted later", code=fault.code)

"""Pictures of people and groups: from WhatsApp into the bucket, politely.

Nobody waits for a picture, and WhatsApp notices somebody who looks at everybody at once. So one
picture an account is asked for at a time, with a pause; the database says whose turn it is. What
was found out ("there is none", "it is hidden") is kept for two weeks, a failure is tried a few
times. The same bytes have the same path, so that a picture that comes back is stored once.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import anyio
import msgspec
from loguru import logger

from bridge.errors import BridgeError, CommandError, LeaseLost
from bridge.ids import AccountId, CommandId, LeaseEpoch
from bridge.media.attempts import (
    Accounts,
    Asked,
    InHand,
    Retries,
    account_here,
    attempted,
    given_out,
)
from bridge.media.limits import MIB, MediaKind
from bridge.media.mime import extension_of
from bridge.media.probe import probe
from bridge.media.storing import Bucket, scratch
from bridge.media.workshop import Workshop
from bridge.orders import FetchPicture
from bridge.supabase.answers import ClaimedPicture, PictureEnd
from bridge.supabase.patience import until_available

PACE_S = 3.0
"""Between two pictures of one account, on the average."""
SLOTS = 4
MAX_BYTES = 4 * MIB
MAX_ATTEMPTS = 4
RETRIES = Retries(
    most_attempts=MAX_ATTEMPTS, waiting_s=30.0, first_s=60.0, growth=4.0, most_s=3600.0
)


class PictureRefused(CommandError):
    """What WhatsApp gave is no picture."""

    code = "picture_refused"

    def __init__(self) -> None:
        super().__init__("What WhatsApp has as the picture is none.")


class PersonUnknown(CommandError):
    """The person or group of a `refresh_profile` is gone."""

    code = "recipient_unknown"

    def __init__(self) -> None:
        super().__init__("The person or group is not known here any more.")


class AvatarRpc(Protocol):
    """What is needed of the database."""

    async def claim_pictures(self, known: Sequence[str]) -> list[ClaimedPicture]:
        """Take the next picture of each account, except those that are being fetched."""

    async def claim_picture(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId
    ) -> ClaimedPicture | None:
        """Take the picture that a command is about."""

    async def finish_picture(
        self,
        claimed: ClaimedPicture,
        state: PictureEnd,
        *,
        path: str | None = None,
        picture_id: str | None = None,
        retry_in_s: float | None = None,
        counts: bool = True,
    ) -> bool:
        """End it, or put it back."""


class Avatars:
    """Fetches the pictures of all accounts of this host."""

    def __init__(
        self,
        rpc: AvatarRpc,
        bucket: Bucket,
        accounts: Accounts,
        workshop: Workshop,
        folder: Path,
        *,
        pace_s: float = PACE_S,
    ) -> None:
        self._rpc = rpc
        self._bucket = bucket
        self._accounts = accounts
        self._workshop = workshop
        self._folder = folder
        self._pace_s = pace_s
        self._slots = anyio.CapacityLimiter(SLOTS)
        self._in_hand = InHand()

    async def run(self) -> None:
        """Fetch one picture an account, pause, and again, until cancelled."""
        while True:
            claimed = await given_out(
                lambda: self._rpc.claim_pictures(self._in_hand.known()), what="claim pictures"
            )
            async with anyio.create_task_group() as pictures:
                for each in claimed:
                    self._in_hand.add(each.id)
                    pictures.start_soon(self._take, each, name="fetch a picture")
            await anyio.sleep(random.uniform(0.7, 1.3) * self._pace_s)  # noqa: S311 - no secret

    async def refresh(self, account: AccountId, epoch: LeaseEpoch, command: CommandId) -> str:
        """Fetch the picture that a command is about, now: `stored`, `unchanged`, `none`, `hidden`.

        Raises:
            CommandError: it could not be had; it is tried again later, too.
        """
        claimed = await until_available(
            lambda: self._rpc.claim_picture(account, epoch, command), what="claim a picture"
        )
        if claimed is None:
            raise PersonUnknown
        with self._in_hand.fetching(claimed.id):
            try:
                return await self._fetch(claimed)
            except BridgeError as fault:
                if not isinstance(fault, LeaseLost):
                    await self._put_back(claimed, fault)
                raise

    async def _take(self, claimed: ClaimedPicture) -> None:
        async with self._slots:
            with (
                logger.contextualize(account=claimed.account_id, picture=claimed.id),
                self._in_hand.on_its_own(claimed.id),
            ):
                await attempted(partial(self._fetch, claimed), partial(self._put_back, claimed))

    async def _fetch(self, claimed: ClaimedPicture) -> str:
        account = await account_here(self._accounts, claimed.account_id, claimed.lease_epoch)
        finish = partial(self._rpc.finish_picture, claimed)
        with scratch(self._folder) as file:
            answer = await self._ask(account, claimed, file)
            if answer.state != "fetched":
                await self._finish(partial(finish, answer.state))
                return answer.state
            path = await self._stored(claimed, answer.sha256, file)
        await self._finish(partial(finish, "stored", path=path, picture_id=answer.id))
        return "stored"

    async def _ask(self, account: Asked, claimed: ClaimedPicture, file: Path) -> _Answer:
        order = FetchPicture(
            of=claimed.jid, path=str(file), max_bytes=MAX_BYTES, known_id=claimed.picture_id
        )
        return msgspec.convert(await account.ask(order), _Answer)

    async def _stored(self, claimed: ClaimedPicture, sha256: str, file: Path) -> str:
        seen = await probe(self._workshop, file, declared=None, file_name=None)
        if seen.kind is not MediaKind.IMAGE:
            raise PictureRefused
        name = sha256[:32] + (extension_of(seen.mime_type) or ".jpg")
        path = f"{claimed.workspace_id}/{claimed.account_id}/avatars/{name}"
        await self._bucket.upload(path, file, mime_type=seen.mime_type)
        return path

    async def _put_back(self, claimed: ClaimedPicture, fault: BridgeError) -> None:
        finish = partial(self._rpc.finish_picture, claimed)
        again = RETRIES.after(fault, claimed.attempts)
        if again is None:
            logger.info("A picture could not be fetched", code=fault.code)
            await self._finish(partial(finish, "failed"))
            return
        logger.info("A picture is fetched later", code=fault.code)
        await self._finish(partial(finish, "pending", retry_in_s=again.in_s, counts=again.counts))

    async def _finish(self, end: Callable[[], Awaitable[bool]]) -> None:
        await until_available(end, what="finish a picture")


class _Answer(msgspec.Struct, frozen=True):
    """Answer of `FetchPicture`."""

    state: Literal["fetched", "unchanged", "none", "hidden"]
    id: str | None = None
    sha256: str = ""

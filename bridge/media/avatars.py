"""Pictures of people and groups: from WhatsApp into the bucket, politely.

Nobody waits for a picture, and WhatsApp notices somebody who looks at everybody at once. So one
picture an account is asked for at a time, with a pause; the database says whose turn it is. What
was found out ("there is none", "it is hidden") is kept for two weeks, a failure is tried a few
times. The same bytes have the same path, so that a picture that comes back is stored once.
"""

from __future__ import annotations

import random
import uuid
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import anyio
import msgspec
from loguru import logger

from bridge.errors import BridgeError, CommandError, LeaseLost, SupabaseUnavailable
from bridge.ids import AccountId, CommandId, LeaseEpoch
from bridge.media.incoming import FIND_ACCOUNT_S, WAITING_CODES, Accounts, Asked, Bucket
from bridge.media.limits import MIB, MediaKind
from bridge.media.mime import extension_of
from bridge.media.probe import probe
from bridge.media.workshop import Workshop
from bridge.orders import FetchPicture
from bridge.supabase.patience import until_available
from bridge.supabase.rpc import ClaimedPicture, PictureEnd

PACE_S = 3.0
"""Between two pictures of one account, on the average."""
SLOTS = 4
MAX_BYTES = 4 * MIB
MAX_ATTEMPTS = 4
WAITING_RETRY_S, FIRST_RETRY_S, MOST_RETRY_S = 30.0, 60.0, 3600.0


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

    async def claim_pictures(self) -> list[ClaimedPicture]:
        """Take the next picture of each account."""

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

    async def run(self) -> None:
        """Fetch one picture an account, pause, and again, until cancelled."""
        while True:
            claimed = await until_available(self._rpc.claim_pictures, what="claim pictures")
            async with anyio.create_task_group() as pictures:
                for each in claimed:
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
        try:
            return await self._fetch(claimed)
        except BridgeError as fault:
            if not isinstance(fault, LeaseLost):
                await self._put_back(claimed, fault)
            raise

    async def _take(self, claimed: ClaimedPicture) -> None:
        async with self._slots:
            with logger.contextualize(account=claimed.account_id, picture=claimed.id):
                try:
                    await self._barrier(claimed)
                except LeaseLost:
                    logger.info("A picture was left: the account is not ours any more")
                except BridgeError as fault:
                    logger.error("A picture could not be finished", code=fault.code)

    async def _barrier(self, claimed: ClaimedPicture) -> None:
        try:
            await self._fetch(claimed)
        except LeaseLost:
            raise
        except BridgeError as fault:
            await self._put_back(claimed, fault)
        except Exception as error:  # noqa: BLE001 - the barrier of one picture
            logger.opt(exception=error).error("Fetching a picture crashed; the others go on")
            await self._put_back(
                claimed, CommandError("The bridge met an internal fault.", retryable=True)
            )

    async def _fetch(self, claimed: ClaimedPicture) -> str:
        account = await self._accounts.find(
            claimed.account_id, claimed.lease_epoch, within_s=FIND_ACCOUNT_S
        )
        if account is None:
            raise CommandError(
                "This host does not run the account.", code="account_gone", retryable=True
            )
        file = self._folder / f"picture-{uuid.uuid4().hex}"
        try:
            answer = await self._ask(account, claimed, file)
            if answer.state != "fetched":
                await self._finish(claimed, answer.state)
                return answer.state
            path = await self._stored(claimed, answer.sha256, file)
        finally:
            file.unlink(missing_ok=True)
        await self._finish(claimed, "stored", path=path, picture_id=answer.id)
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
        waits = fault.code in WAITING_CODES or isinstance(fault, SupabaseUnavailable)
        again = waits or not isinstance(fault, CommandError) or fault.retryable
        if not again or (not waits and claimed.attempts >= MAX_ATTEMPTS):
            logger.info("A picture could not be fetched", code=fault.code)
            await self._finish(claimed, "failed")
            return
        retry_in_s = WAITING_RETRY_S if waits else _retry_in_s(claimed.attempts)
        logger.info("A picture is fetched later", code=fault.code)
        await self._finish(claimed, "pending", retry_in_s=retry_in_s, counts=not waits)

    async def _finish(
        self,
        claimed: ClaimedPicture,
        state: PictureEnd,
        *,
        path: str | None = None,
        picture_id: str | None = None,
        retry_in_s: float | None = None,
        counts: bool = True,
    ) -> None:
        await until_available(
            partial(
                self._rpc.finish_picture,
                claimed,
                state,
                path=path,
                picture_id=picture_id,
                retry_in_s=retry_in_s,
                counts=counts,
            ),
            what="finish a picture",
        )


class _Answer(msgspec.Struct, frozen=True):
    """Answer of `FetchPicture`."""

    state: Literal["fetched", "unchanged", "none", "hidden"]
    id: str | None = None
    sha256: str = ""


def _retry_in_s(attempts: int) -> float:
    """Pause before the next attempt: growing, and never the same for all."""
    bound = min(MOST_RETRY_S, FIRST_RETRY_S * 4.0 ** max(0, attempts - 1))
    return random.uniform(bound / 2, bound)  # noqa: S311 - no secret

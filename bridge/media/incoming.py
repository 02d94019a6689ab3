"""Files of received messages: from WhatsApp into the bucket, soon and one day for sure.

An attachment is a row in state `pending`. Rows are claimed like commands, fetched by the engine
into a file, looked at, stored, and finished as `stored`, `failed` or `expired`; what may work later
stays `pending` with a time. All state is in the database, so a restart loses an attempt at most,
and no message ever waits for its file.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import msgspec
from loguru import logger

from bridge.bell import Bell
from bridge.errors import BridgeError
from bridge.ids import AccountId, LeaseEpoch
from bridge.media.attempts import (
    Accounts,
    InHand,
    Retries,
    account_here,
    attempted,
    given_out,
)
from bridge.media.limits import MediaKind, MediaLimits, MediaTooLarge
from bridge.media.mime import bare_type
from bridge.media.names import StoragePath, display_name
from bridge.media.probe import Probe, probe
from bridge.media.storing import Bucket, KnowsFiles, scratch, stored_once
from bridge.media.workshop import Workshop
from bridge.orders import DownloadMedia
from bridge.supabase.answers import ClaimedAttachment, FileEnd
from bridge.supabase.patience import Backoff, until_available
from bridge.supabase.storage import StorageUnavailable
from bridge.vault import Vault, open_json

PURPOSE = "media"
SLOTS = 4
POLL_INTERVAL_S = 5.0
MAX_ATTEMPTS = 8
RETRIES = Retries(
    most_attempts=MAX_ATTEMPTS,
    waiting_s=2.0,  # mostly an account that connects
    first_s=3.0,
    growth=2.0,
    most_s=900.0,
)
STORAGE_FIRST_S, STORAGE_MOST_S = 1.0, 60.0


def sealer(vault: Vault) -> Callable[[AccountId, dict[str, Any]], dict[str, Any]]:
    """Seals what opens a file at WhatsApp, as `Downloads` will want it."""

    def seal(account: AccountId, media: dict[str, Any]) -> dict[str, Any]:
        plain = msgspec.json.encode(media)
        return vault.seal(plain, purpose=PURPOSE, account=account, generation=0).to_json()

    return seal


class IncomingRpc(KnowsFiles, Protocol):
    """What is needed of the database."""

    async def claim_attachments(self, limit: int, known: Sequence[str]) -> list[ClaimedAttachment]:
        """Take files that are due, except those that are being fetched."""

    async def finish_attachment(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        attachment: str,
        status: FileEnd,
        *,
        facts: dict[str, Any] | None = None,
        error: str | None = None,
        retry_in_s: float | None = None,
        counts: bool = True,
    ) -> bool:
        """End it, or put it back."""


class Downloads:
    """Fetches the files of all accounts of this host; `bell` rings when there may be some."""

    def __init__(
        self,
        rpc: IncomingRpc,
        bucket: Bucket,
        vault: Vault,
        accounts: Accounts,
        workshop: Workshop,
        folder: Path,
        bell: Bell,
        *,
        slots: int = SLOTS,
        poll_interval_s: float = POLL_INTERVAL_S,
    ) -> None:
        self._rpc = rpc
        self._bucket = bucket
        self._vault = vault
        self._accounts = accounts
        self._workshop = workshop
        self._folder = folder
        self._slots = slots
        self._poll_interval_s = poll_interval_s
        self._in_hand = InHand()
        self._bell = bell
        self._storage_rest = Backoff(STORAGE_FIRST_S, STORAGE_MOST_S, least_s=0.5)
        self._storage_back_at = 0.0

    async def run(self) -> None:
        """Claim and fetch, until cancelled."""
        async with anyio.create_task_group() as files:
            while True:
                self._bell.hush()
                if free := self._free():
                    claimed = await given_out(
                        partial(self._rpc.claim_attachments, free, self._in_hand.known()),
                        what="claim attachments",
                    )
                    for attachment in claimed:
                        self._in_hand.add(attachment.id)
                        files.start_soon(self._take, attachment, name="fetch a file")
                await self._bell.wait(self._pause_s())

    def _free(self) -> int:
        """How many may be claimed; none while Storage is away."""
        if anyio.current_time() < self._storage_back_at:
            return 0
        return self._slots - len(self._in_hand)

    def _pause_s(self) -> float:
        away_s = self._storage_back_at - anyio.current_time()
        return max(away_s, 0.05) if away_s > 0 else self._poll_interval_s

    async def _take(self, attachment: ClaimedAttachment) -> None:
        with logger.contextualize(account=attachment.account_id, attachment=attachment.id):
            try:
                with self._in_hand.on_its_own(attachment.id):
                    await self._attempt(attachment)
            finally:
                self._bell.ring()

    async def _attempt(self, attachment: ClaimedAttachment) -> None:
        facts = await attempted(
            partial(self._fetched, attachment), partial(self._put_back, attachment)
        )
        if facts is not None:
            self._storage_rest.reset()
            await self._finish(attachment, "stored", facts=facts)

    async def _fetched(self, attachment: ClaimedAttachment) -> dict[str, Any]:
        """Fetch, look at and store; what is known of the file then."""
        kind = MediaKind(attachment.kind)
        limit_bytes = MediaLimits().overridden(attachment.media_limits).for_kind(kind)
        if (attachment.size_bytes or 0) > limit_bytes:
            raise MediaTooLarge(limit_bytes)
        message = open_json(
            self._vault,
            attachment.sealed,
            purpose=PURPOSE,
            account=attachment.account_id,
            generation=0,
        )
        account = await account_here(self._accounts, attachment.account_id, attachment.lease_epoch)
        with scratch(self._folder) as file:
            answer = msgspec.convert(
                await account.ask(
                    DownloadMedia(
                        kind=kind.value, message=message, path=str(file), max_bytes=limit_bytes
                    )
                ),
                _Downloaded,
            )
            seen = await probe(
                self._workshop,
                file,
                declared=attachment.mime_type,
                file_name=attachment.file_name,
            )
            path = await self._stored(attachment, file, answer.sha256, seen)
        return _facts(attachment, answer, seen, path)

    async def _stored(
        self, attachment: ClaimedAttachment, file: Path, sha256: str, seen: Probe
    ) -> str:
        place = StoragePath.of(
            workspace_id=attachment.workspace_id,
            account_id=attachment.account_id,
            conversation_id=attachment.conversation_id,
            message_id=attachment.message_id,
            name=attachment.file_name or attachment.kind,
            mime_type=seen.mime_type,
        )
        return await stored_once(
            self._rpc,
            self._bucket,
            file,
            place,
            epoch=attachment.lease_epoch,
            sha256=sha256,
            mime_type=seen.mime_type,
        )

    async def _put_back(self, attachment: ClaimedAttachment, fault: BridgeError) -> None:
        if isinstance(fault, StorageUnavailable):
            self._storage_back_at = anyio.current_time() + self._storage_rest.next_delay_s()
        if fault.code == "media_expired":
            await self._finish(attachment, "expired", error=fault.sentence)
            return
        again = RETRIES.after(fault, attachment.attempts)
        if again is None:
            logger.info("A file could not be fetched", code=fault.code)
            await self._finish(attachment, "failed", error=fault.sentence)
            return
        logger.info("A file is fetched later", code=fault.code)
        await self._finish(
            attachment,
            "pending",
            error=fault.sentence,
            retry_in_s=again.in_s,
            counts=again.counts,
        )

    async def _finish(
        self,
        attachment: ClaimedAttachment,
        status: FileEnd,
        *,
        facts: dict[str, Any] | None = None,
        error: str | None = None,
        retry_in_s: float | None = None,
        counts: bool = True,
    ) -> None:
        await until_available(
            lambda: self._rpc.finish_attachment(
                attachment.account_id,
                attachment.lease_epoch,
                attachment.id,
                status,
                facts=facts,
                error=error,
                retry_in_s=retry_in_s,
                counts=counts,
            ),
            what="finish attachment",
        )


class _Downloaded(msgspec.Struct, frozen=True):
    """Answer of `DownloadMedia`."""

    size_bytes: int
    sha256: str


def _facts(
    attachment: ClaimedAttachment, answer: _Downloaded, seen: Probe, path: str
) -> dict[str, Any]:
    declared = attachment.mime_type
    # The sender's word is kept where content agrees, because it says more ("; codecs=opus").
    agrees = bare_type(declared) == seen.mime_type
    return {
        "path": path,
        "mime_type": declared if agrees else seen.mime_type,
        "file_name": display_name(attachment.file_name) if attachment.file_name else None,
        "size_bytes": answer.size_bytes,
        "sha256": answer.sha256,
        **seen_facts(seen),
    }


def seen_facts(seen: Probe) -> dict[str, Any]:
    """What a look into a file tells its attachment."""
    thumbnail = seen.thumbnail
    return {
        "width": seen.width,
        "height": seen.height,
        "duration_s": round(seen.duration_s, 3) if seen.duration_s is not None else None,
        "thumbnail": base64.b64encode(thumbnail).decode() if thumbnail else None,
    }

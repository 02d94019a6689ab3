"""One typed method a SQL function. The SQL in `supabase/migrations` says what each one does.

Calls are not repeated here: the callers know what may wait and what may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from bridge.events import Person
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, WorkerId
from bridge.supabase.answers import (
    Check,
    ClaimedAttachment,
    ClaimedCommand,
    ClaimedPicture,
    CommandContext,
    FileEnd,
    Finish,
    HistoryState,
    Lease,
    LeaseEpochRow,
    ListedAccount,
    OldPicture,
    PhoneChat,
    PictureEnd,
    Recorded,
    Registered,
    SealedItem,
    Settled,
    StoredSession,
    Unread,
)
from bridge.supabase.client import RequestRefused, SupabaseHttp

T = TypeVar("T")


class BridgeRpc:
    """The functions, called as one worker."""

    def __init__(self, http: SupabaseHttp, worker: WorkerId) -> None:
        self._http = http
        self.worker = worker

    async def check(self) -> Check:
        """What the database is like; needs no registration."""
        return await self._call("bridge_check", {}, Check)

    async def list_accounts(self) -> list[ListedAccount]:
        """All accounts, for the operator."""
        return await self._call("bridge_list_accounts", {}, list[ListedAccount])

    async def list_sealed(self, key_id: str, skip: Sequence[str], limit: int) -> list[SealedItem]:
        """What is sealed with another key than this one."""
        arguments = {"p_key_id": key_id, "p_skip": list(skip), "p_limit": limit}
        return await self._call("bridge_list_sealed", arguments, list[SealedItem])

    async def reseal(self, items: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Put back what was sealed anew; how many of each had not changed meanwhile."""
        return await self._call("bridge_reseal", {"p_items": list(items)}, dict[str, int])

    async def register_worker(self, info: dict[str, Any]) -> Registered:
        """Be known; gives up what an earlier run of this worker held."""
        arguments = {"p_worker": self.worker, "p_info": info}
        return await self._call("bridge_register_worker", arguments, Registered)

    async def heartbeat(self, load: dict[str, Any]) -> None:
        """Say that this worker lives.

        Raises:
            WorkerUnknown: if it must register again.
        """
        await self._http.rpc("bridge_heartbeat", {"p_worker": self.worker, "p_load": load})

    async def hold_leases(self, capacity: int, lease_s: int) -> list[Lease]:
        """Renew what is held, take what is free, give back what nobody needs; all held now."""
        arguments = {"p_worker": self.worker, "p_capacity": capacity, "p_lease_s": lease_s}
        return await self._call("bridge_hold_leases", arguments, list[Lease], urgent=True)

    async def release_leases(self, accounts: Sequence[AccountId]) -> None:
        """Give accounts back at once, so that another host need not wait for the expiry."""
        arguments = {"p_worker": self.worker, "p_accounts": list(accounts)}
        await self._http.rpc("bridge_release_leases", arguments, urgent=True)

    async def lease_epochs(self, accounts: Sequence[AccountId]) -> list[LeaseEpochRow]:
        """Who has these accounts, under which epoch; those that are gone are not in it."""
        arguments = {"p_accounts": list(accounts)}
        return await self._call("bridge_lease_epochs", arguments, list[LeaseEpochRow])

    async def claim_commands(self, limit: int) -> list[ClaimedCommand]:
        """Take up to `limit` commands of accounts that this worker holds."""
        arguments = {"p_worker": self.worker, "p_limit": limit}
        return await self._call("bridge_claim_commands", arguments, list[ClaimedCommand])

    async def running_commands(self, known: Sequence[CommandId]) -> list[ClaimedCommand]:
        """Commands that a claim gave out whose answer got lost: running here, and not known."""
        arguments = {"p_worker": self.worker, "p_known": list(known)}
        return await self._call("bridge_running_commands", arguments, list[ClaimedCommand])

    async def finish_command(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        command: CommandId,
        status: Finish,
        *,
        result: Any = None,
        error_code: str | None = None,
        error_message: str | None = None,
        retry_in_s: float | None = None,
        claim: int | None = None,
        counts: bool = True,
    ) -> bool:
        """End a command, or put it back; False if it does not run, or was taken again meanwhile."""
        arguments = self._fenced(account, epoch) | {
            "p_command": command,
            "p_status": status,
            "p_result": result,
            "p_error_code": error_code,
            "p_error_message": error_message,
            "p_retry_in_s": retry_in_s,
            "p_claim": claim,
            "p_counts": counts,
        }
        return await self._call("bridge_finish_command", arguments, bool)

    async def settle_commands(
        self, account: AccountId, epoch: LeaseEpoch, known_epoch: LeaseEpoch | None
    ) -> Settled:
        """Decide about commands that an earlier holder of the account left running."""
        arguments = self._fenced(account, epoch) | {"p_known_epoch": known_epoch}
        return await self._call("bridge_settle_commands", arguments, Settled)

    async def update_account(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        """Write the account's face."""
        arguments = self._fenced(account, epoch) | {"p_changes": changes}
        await self._http.rpc("bridge_update_account", arguments)

    async def load_session(self, account: AccountId, epoch: LeaseEpoch) -> StoredSession:
        """The sealed state of the account's session."""
        return await self._call("bridge_load_session", self._fenced(account, epoch), StoredSession)

    async def save_session(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        generation: int,
        auth_state: dict[str, Any],
    ) -> None:
        """Replace the base; the deltas before it go.

        Raises:
            GenerationConflict: if `generation` is not the stored one plus one.
        """
        arguments = self._fenced(account, epoch) | {
            "p_generation": generation,
            "p_auth_state": auth_state,
        }
        await self._http.rpc("bridge_save_session", arguments)

    async def save_session_delta(
        self, account: AccountId, epoch: LeaseEpoch, generation: int, delta: dict[str, Any]
    ) -> None:
        """Append a delta.

        Raises:
            GenerationConflict: if `generation` is not the stored one plus one.
        """
        arguments = self._fenced(account, epoch) | {
            "p_generation": generation,
            "p_delta": delta,
        }
        await self._http.rpc("bridge_save_session_delta", arguments)

    async def destroy_session(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        """Forget the credentials for good and write the given columns; the account is stopped."""
        arguments = self._fenced(account, epoch) | {"p_changes": changes}
        await self._http.rpc("bridge_destroy_session", arguments)

    async def report(
        self,
        account: AccountId | None,
        level: str,
        code: str,
        message: str,
        context: dict[str, Any] | None = None,
    ) -> None:
        """Leave a line in `whatsapp_baileys_events`."""
        arguments = {
            "p_worker": self.worker,
            "p_account": account,
            "p_level": level,
            "p_code": code,
            "p_message": message,
            "p_context": context or {},
        }
        await self._http.rpc("bridge_report", arguments)

    async def record_events(
        self, account: AccountId, epoch: LeaseEpoch, events: Sequence[dict[str, Any]]
    ) -> Recorded:
        """Write a batch in one transaction; the same batch again changes nothing."""
        arguments = self._fenced(account, epoch) | {"p_events": list(events)}
        return await self._call("bridge_record_events", arguments, Recorded)

    async def record_late(
        self, account: AccountId, held_epoch: LeaseEpoch, events: Sequence[dict[str, Any]]
    ) -> Recorded:
        """Write facts that this worker was told under an earlier epoch; others are left out.

        Raises:
            LeaseLost: if nobody has taken the account since.
        """
        arguments = {
            "p_worker": self.worker,
            "p_account": account,
            "p_held_epoch": held_epoch,
            "p_events": list(events),
        }
        return await self._call("bridge_record_late", arguments, Recorded)

    async def record_history(
        self, account: AccountId, epoch: LeaseEpoch, history: dict[str, Any]
    ) -> Recorded:
        """Write parts of a history in one transaction; the same again changes nothing."""
        arguments = self._fenced(account, epoch) | {"p_history": history}
        return await self._call("bridge_record_history", arguments, Recorded)

    async def begin_history(self, account: AccountId, epoch: LeaseEpoch) -> None:
        """A phone was linked: progress begins at 0."""
        await self._http.rpc("bridge_begin_history", self._fenced(account, epoch))

    async def history_state(self, account: AccountId, epoch: LeaseEpoch, days: int) -> HistoryState:
        """How far the history is, and what there is of the last days."""
        arguments = self._fenced(account, epoch) | {"p_days": days}
        return await self._call("bridge_history_state", arguments, HistoryState)

    async def finish_history(
        self, account: AccountId, epoch: LeaseEpoch, warning: str | None
    ) -> None:
        """Everything that the phone sent is recorded."""
        arguments = self._fenced(account, epoch) | {"p_warning": warning}
        await self._http.rpc("bridge_finish_history", arguments)

    async def record_blocklist(
        self, account: AccountId, epoch: LeaseEpoch, people: list[dict[str, Any]]
    ) -> None:
        """The account blocks these and nobody else."""
        arguments = self._fenced(account, epoch) | {"p_people": people}
        await self._http.rpc("bridge_record_blocklist", arguments)

    async def list_chats(self, account: AccountId, epoch: LeaseEpoch) -> list[PhoneChat]:
        """The chats of an account, with people and groups."""
        return await self._call("bridge_list_chats", self._fenced(account, epoch), list[PhoneChat])

    async def record_chats(
        self, account: AccountId, epoch: LeaseEpoch, chats: list[dict[str, Any]]
    ) -> None:
        """These chats are so on the phone."""
        arguments = self._fenced(account, epoch) | {"p_chats": chats}
        await self._http.rpc("bridge_record_chats", arguments)

    async def command_context(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId
    ) -> CommandContext:
        """What a command is about."""
        arguments = self._fenced(account, epoch) | {"p_command": command}
        return await self._call("bridge_command_context", arguments, CommandContext)

    async def unread_messages(
        self, account: AccountId, epoch: LeaseEpoch, conversation: str, until: str | None
    ) -> list[Unread]:
        """What a `mark_read` means, oldest first."""
        arguments = self._fenced(account, epoch) | {
            "p_conversation": conversation,
            "p_until_message": until,
        }
        return await self._call("bridge_unread_messages", arguments, list[Unread])

    async def claim_attachments(self, limit: int, known: Sequence[str]) -> list[ClaimedAttachment]:
        """Take up to `limit` files to be fetched for connected accounts, the newest first.

        Args:
            limit: how many.
            known: those that are being fetched; what was claimed and is not among them is given out
                again, because the answer to that claim was lost.
        """
        arguments = {"p_worker": self.worker, "p_limit": limit, "p_known": list(known)}
        return await self._call("bridge_claim_attachments", arguments, list[ClaimedAttachment])

    async def find_stored_file(
        self, account: AccountId, epoch: LeaseEpoch, sha256: str
    ) -> str | None:
        """Path of a file with these bytes that the account has in the bucket already."""
        arguments = self._fenced(account, epoch) | {"p_sha256": sha256}
        return msgspec.convert(
            await self._call("bridge_find_stored_file", arguments, object), str | None
        )

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
        """End a file, or put it back; False if it is not fetched under this lease (any more).

        Args:
            account: whose.
            epoch: under which it was claimed.
            attachment: which.
            status: `pending` puts it back.
            facts: what became known of it; `path` if it is stored.
            error: why not, as a sentence.
            retry_in_s: for `pending`.
            counts: False if it was not even begun.
        """
        arguments = self._fenced(account, epoch) | {
            "p_attachment": attachment,
            "p_status": status,
            "p_facts": facts,
            "p_error": error,
            "p_retry_in_s": retry_in_s,
            "p_counts": counts,
        }
        return await self._call("bridge_finish_attachment", arguments, bool)

    async def attach_to_send(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId, facts: dict[str, Any]
    ) -> str | None:
        """The message of a running send has this stored file; None if it does not run."""
        arguments = self._fenced(account, epoch) | {"p_command": command, "p_facts": facts}
        return msgspec.convert(
            await self._call("bridge_attach_to_send", arguments, object), str | None
        )

    async def claim_pictures(self, known: Sequence[str]) -> list[ClaimedPicture]:
        """Take the next picture of each connected account.

        Args:
            known: those that are being fetched; what was claimed and is not among them is given out
                again, because the answer to that claim was lost.
        """
        arguments = {"p_worker": self.worker, "p_known": list(known)}
        return await self._call("bridge_claim_pictures", arguments, list[ClaimedPicture])

    async def claim_picture(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId
    ) -> ClaimedPicture | None:
        """Take the picture that a `refresh_profile` is about; None if there is nobody."""
        arguments = self._fenced(account, epoch) | {"p_command": command}
        claimed = await self._call("bridge_claim_picture", arguments, list[ClaimedPicture])
        return claimed[0] if claimed else None

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
        """End a picture, or put it back; False if it is not fetched under this lease (any more)."""
        arguments = self._fenced(claimed.account_id, claimed.lease_epoch) | {
            "p_picture": claimed.id,
            "p_state": state,
            "p_path": path,
            "p_picture_id": picture_id,
            "p_retry_in_s": retry_in_s,
            "p_counts": counts,
        }
        return await self._call("bridge_finish_picture", arguments, bool)

    async def claim_old_pictures(self) -> list[OldPicture]:
        """Take some files of old pictures that may be deleted."""
        return await self._call("bridge_claim_old_pictures", {}, list[OldPicture])

    async def forget_old_pictures(self, ids: Sequence[str]) -> None:
        """The files are deleted."""
        await self._http.rpc("bridge_forget_old_pictures", {"p_ids": list(ids)})

    async def tell_typing(
        self, account: AccountId, epoch: LeaseEpoch, chat: Jid, person: Person, state: str
    ) -> bool:
        """Broadcast that somebody types; False if nobody would see it."""
        arguments = self._fenced(account, epoch) | {
            "p_chat": chat,
            "p_person": {"phone_jid": person.phone_jid, "lid": person.lid},
            "p_state": state,
        }
        return await self._call("bridge_tell_typing", arguments, bool)

    def _fenced(self, account: AccountId, epoch: LeaseEpoch) -> dict[str, Any]:
        return {"p_worker": self.worker, "p_account": account, "p_epoch": epoch}

    async def _call(
        self, function: str, arguments: dict[str, Any], shape: type[T], *, urgent: bool = False
    ) -> T:
        answer = await self._http.rpc(function, arguments, urgent=urgent)
        try:
            return msgspec.json.decode(answer, type=shape)
        except msgspec.DecodeError as error:
            raise RequestRefused(
                f"{function} answered in a form that this version does not know: {error}.", "shape"
            ) from error

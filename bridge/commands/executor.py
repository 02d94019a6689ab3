"""One command: parse, do, finish.

This is one of the two places where any exception is caught: whatever happens, only this row fails.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from loguru import logger

from bridge.commands.payloads import (
    ConnectPayload,
    EmptyPayload,
    MarkReadPayload,
    NotAvailable,
    SendTextPayload,
    digits_of,
    parse,
)
from bridge.engine.host import PairByCode, PairByQr
from bridge.errors import BridgeError, CommandError, LeaseLost
from bridge.events import Person
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, WhatsAppMessageId
from bridge.normalise.identity import chat_of, peer_of, person_of
from bridge.normalise.rows import ReceiptRow, to_json
from bridge.orders import MarkRead, Outgoing, Request, Text
from bridge.states import AccountStatus
from bridge.supabase.patience import until_available
from bridge.supabase.rpc import Attempt, ClaimedCommand, Finish, Recorded, Unread

MAX_ATTEMPTS = 5
FIRST_RETRY_S = 2.0
MOST_RETRY_S = 120.0
# While an account connects, its commands wait; that costs them no attempt.
CONNECTING_RETRY_S = 1.0
FIND_ACCOUNT_S = 5.0


class AccountPort(Protocol):
    """What a command can ask of an account."""

    @property
    def own_jid(self) -> Jid | None:
        """Own address, while connected."""

    async def connect(self, pairing: PairByQr | PairByCode) -> AccountStatus:
        """Be connected, or show something to link a phone with."""

    async def disconnect(self) -> None:
        """Close the session, keep the credentials."""

    async def logout(self) -> bool:
        """Unlink and forget; whether WhatsApp was told."""

    async def send(self, command: CommandId, to: Jid, order: Outgoing, attempt: Attempt) -> None:
        """Hand over; returns when the outcome is recorded."""

    async def ask(self, order: Request) -> Any:
        """Have something done at WhatsApp; returns what the order says it answers."""


class Accounts(Protocol):
    """Who runs here."""

    async def find(
        self, account_id: AccountId, epoch: LeaseEpoch, *, within_s: float
    ) -> AccountPort | None:
        """The account under that lease."""


class ExecutorRpc(Protocol):
    """What is needed of the database."""

    async def finish_command(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        command: CommandId,
        status: Finish,
        *,
        result: dict[str, Any] | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
        retry_in_s: float | None = None,
        attempt: int | None = None,
    ) -> bool:
        """End a command, or put it back."""

    async def unread_messages(
        self, account: AccountId, epoch: LeaseEpoch, conversation: str, until: str | None
    ) -> list[Unread]:
        """What a `mark_read` means."""

    async def record_events(
        self, account: AccountId, epoch: LeaseEpoch, events: Sequence[dict[str, Any]]
    ) -> Recorded:
        """Write rows."""


class AccountGone(CommandError):
    """This host does not run the account any more, or not yet."""

    code = "account_gone"


class Executor:
    """Executes commands of all accounts."""

    def __init__(self, rpc: ExecutorRpc, accounts: Accounts) -> None:
        self._rpc = rpc
        self._accounts = accounts

    async def execute(self, command: ClaimedCommand) -> None:
        """Do it and finish its row. Raises nothing."""
        with logger.contextualize(account=command.account_id, command=command.id):
            try:
                await self._barrier(command)
            except LeaseLost:
                # the account's next holder settles what we leave
                logger.info("A command was left: the account is not ours any more")
            except BridgeError as fault:
                logger.error("A command could not be finished", code=fault.code)

    async def _barrier(self, command: ClaimedCommand) -> None:
        try:
            result = await self._perform(command)
        except LeaseLost:
            raise
        except CommandError as fault:
            await self._fail(command, fault)
        except BridgeError as fault:
            await self._fail(command, CommandError(fault.sentence, code=fault.code))
        except Exception as error:  # noqa: BLE001 - the barrier of one command
            logger.opt(exception=error).error("A command crashed; the others go on")
            await self._fail(
                command, CommandError("The bridge met an internal fault.", code="internal")
            )
        else:
            if result is not None:
                await self._finish(command, "done", result=result)

    async def _perform(self, command: ClaimedCommand) -> dict[str, Any] | None:
        """Do it. The result finishes the command; None = its outcome is recorded elsewhere."""
        account = await self._accounts.find(
            command.account_id, command.lease_epoch, within_s=FIND_ACCOUNT_S
        )
        if account is None:
            raise AccountGone("This host does not run the account.", retryable=True)
        match command.type, command.payload.get("type"):
            case "connect", _:
                return await self._connect(account, parse(command.payload, ConnectPayload))
            case "disconnect", _:
                parse(command.payload, EmptyPayload)
                await account.disconnect()
                return {}
            case "logout", _:
                parse(command.payload, EmptyPayload)
                return {"unlinked": await account.logout()}
            case "send", "text":
                await self._send_text(account, command, parse(command.payload, SendTextPayload))
                return None
            case "mark_read", _:
                return await self._mark_read(
                    account, command, parse(command.payload, MarkReadPayload)
                )
            case "send", kind:
                raise NotAvailable(f"`send` cannot do type {kind!r} in this version.")
            case type_, _:
                raise NotAvailable(f"`{type_}` is not available in this version of the bridge.")

    async def _connect(self, account: AccountPort, payload: ConnectPayload) -> dict[str, Any]:
        match payload.method:
            case "qr":
                status = await account.connect(PairByQr())
            case "code":
                status = await account.connect(PairByCode(digits_of(payload.phone or "")))
            case _:
                raise NotAvailable('`method` must be "qr" or "code".')
        return {"status": status.value}

    async def _send_text(
        self, account: AccountPort, command: ClaimedCommand, payload: SendTextPayload
    ) -> None:
        payload.refuse_what_is_missing()
        if command.chat_jid is None:
            raise CommandError("The database did not say where to.", code="recipient_unknown")
        await account.send(
            command.id,
            command.chat_jid,
            Text(text=payload.text),
            Attempt(command.attempts, _retry_in_s(command.attempts)),
        )

    async def _mark_read(
        self, account: AccountPort, command: ClaimedCommand, payload: MarkReadPayload
    ) -> dict[str, Any]:
        own = account.own_jid
        unread = await until_available(
            lambda: self._rpc.unread_messages(
                command.account_id,
                command.lease_epoch,
                payload.conversation_id,
                payload.until_message_id,
            ),
            what="look for unread messages",
        )
        if not unread:
            return {"marked": 0}
        by_sender: dict[tuple[Jid, Jid], list[WhatsAppMessageId]] = {}
        for message in unread:
            key = (message.chat_jid, message.sender_jid)
            by_sender.setdefault(key, []).append(message.whatsapp_message_id)
        for (chat_jid, sender), ids in by_sender.items():
            await account.ask(MarkRead(chat=chat_jid, sender=sender, ids=ids, at=time.time()))
        chat = chat_of(unread[0].chat_jid)
        row = ReceiptRow(
            chat=chat,
            peer=peer_of(chat, None),
            reader=person_of(Person(phone_jid=own)),
            ids=[message.whatsapp_message_id for message in unread],
            type="read_self",
            at=datetime.now(UTC).isoformat(),
        )
        await until_available(
            lambda: self._rpc.record_events(
                command.account_id, command.lease_epoch, [to_json(row)]
            ),
            what="record what was read",
        )
        return {"marked": len(unread)}

    async def _fail(self, command: ClaimedCommand, fault: CommandError) -> None:
        retry_in_s: float | None = None
        if fault.retryable:
            waits = fault.code in ("not_connected", "account_gone", "session_over")
            retry_in_s = CONNECTING_RETRY_S if waits else _retry_in_s(command.attempts)
        logger.info("A command did not succeed", code=fault.code, again=retry_in_s is not None)
        await self._finish(
            command,
            "failed" if retry_in_s is None else "pending",
            error_code=fault.code,
            error_message=fault.sentence,
            retry_in_s=retry_in_s,
        )

    async def _finish(
        self,
        command: ClaimedCommand,
        status: Finish,
        *,
        result: dict[str, Any] | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        await until_available(
            lambda: self._rpc.finish_command(
                command.account_id,
                command.lease_epoch,
                command.id,
                status,
                result=result,
                error_code=error_code,
                error_message=error_message,
                retry_in_s=retry_in_s,
                attempt=command.attempts,
            ),
            what="finish command",
        )


def _retry_in_s(attempts: int) -> float | None:
    """Pause before the next attempt, growing; None after the last one."""
    if attempts >= MAX_ATTEMPTS:
        return None
    return float(min(MOST_RETRY_S, FIRST_RETRY_S * 2.0 ** max(0, attempts - 1)))

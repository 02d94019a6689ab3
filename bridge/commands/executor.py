"""One command: parse, do, finish.

Any exception is caught here: whatever happens, only this row fails.
"""

from __future__ import annotations

import time
from typing import Any

from loguru import logger

from bridge.commands.asking import Asker, OutcomeUnknown, Pictures
from bridge.commands.governor import attempt_of, retry_of, seem_to_type, types_first
from bridge.commands.history import sync_history
from bridge.commands.payloads import (
    ConnectPayload,
    EmptyPayload,
    MarkReadPayload,
    NotAvailable,
    digits_of,
    parse,
)
from bridge.commands.ports import AccountPort, Accounts, ExecutorRpc
from bridge.commands.profiles import RefreshPicture, refresh_profile
from bridge.commands.sending import OUTGOING_TYPES, Composer, Files, Previews
from bridge.engine.host import PairByCode, PairByQr
from bridge.errors import BridgeError, CommandError, LeaseLost
from bridge.events import Person
from bridge.ids import Jid, WhatsAppMessageId
from bridge.normalise.identity import chat_of, peer_of, person_of
from bridge.normalise.rows import ReceiptRow, to_json
from bridge.orders import MarkRead
from bridge.supabase.answers import ClaimedCommand, Finish, Retry
from bridge.supabase.patience import until_available

FIND_ACCOUNT_S = 5.0


class AccountGone(CommandError):
    """This host does not run the account any more, or not yet."""

    code = "account_gone"


class Executor:
    """Executes commands of all accounts.

    Args:
        files: prepares what `send` sends.
        previews: looks at the pages that texts name.
        pictures: fetches what `group_update` and `set_profile` set.
        avatars: fetches what people and groups look like, for `refresh_profile`.
    """

    def __init__(
        self,
        rpc: ExecutorRpc,
        accounts: Accounts,
        *,
        files: Files,
        previews: Previews,
        pictures: Pictures,
        avatars: RefreshPicture,
    ) -> None:
        self._rpc = rpc
        self._accounts = accounts
        self._composer = Composer(rpc, files, previews)
        self._asker = Asker(pictures)
        self._avatars = avatars

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

    async def _perform(self, command: ClaimedCommand) -> Any:
        """Do it. The result finishes the command; None = its outcome is recorded elsewhere."""
        account = await self._accounts.find(
            command.account_id, command.lease_epoch, within_s=FIND_ACCOUNT_S
        )
        if account is None:
            raise AccountGone("This host does not run the account.", retryable=True)
        match command.type:
            case "connect":
                return await self._connect(account, parse(command.payload, ConnectPayload))
            case "disconnect":
                parse(command.payload, EmptyPayload)
                await account.disconnect()
                return {}
            case "logout":
                parse(command.payload, EmptyPayload)
                return {"unlinked": await account.logout()}
            case "mark_read":
                payload = parse(command.payload, MarkReadPayload)
                return await self._mark_read(account, command, payload)
            case "sync_history":
                return await sync_history(self._rpc, command)
            case "refresh_profile":
                return await refresh_profile(self._rpc, self._avatars, account, command)
            case type_ if type_ in OUTGOING_TYPES:
                await self._send(account, command)
                return None
            case _:
                return await self._asker.do(
                    account, command, lambda: self._composer.context(command)
                )

    async def _connect(self, account: AccountPort, payload: ConnectPayload) -> dict[str, Any]:
        match payload.method:
            case "qr":
                status = await account.connect(PairByQr())
            case "code":
                status = await account.connect(PairByCode(digits_of(payload.phone or "")))
            case _:
                raise NotAvailable('`method` must be "qr" or "code".')
        return {"status": status.value}

    async def _send(self, account: AccountPort, command: ClaimedCommand) -> None:
        if command.chat_jid is None:
            raise CommandError("The database did not say where to.", code="recipient_unknown")
        order = await self._composer.compose(account, command)
        if command.type == "send" and types_first(command.payload, account.settings):
            await seem_to_type(account, command.chat_jid, order)
        await account.send(command.id, command.chat_jid, order, attempt_of(command))

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
            at="now",  # by the clock of the database
        )
        await until_available(
            lambda: self._rpc.record_events(
                command.account_id, command.lease_epoch, [to_json(row)]
            ),
            what="record what was read",
        )
        return {"marked": len(unread)}

    async def _fail(self, command: ClaimedCommand, fault: CommandError) -> None:
        if isinstance(fault, OutcomeUnknown):
            await self._finish(
                command, "unknown", error_code=fault.code, error_message=fault.sentence
            )
            return
        retry = retry_of(fault.code, command.attempts) if fault.retryable else None
        logger.info("A command did not succeed", code=fault.code, again=retry is not None)
        await self._finish(
            command,
            "failed" if retry is None else "pending",
            error_code=fault.code,
            error_message=fault.sentence,
            retry=retry,
        )

    async def _finish(
        self,
        command: ClaimedCommand,
        status: Finish,
        *,
        result: Any = None,
        error_code: str | None = None,
        error_message: str | None = None,
        retry: Retry | None = None,
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
                retry_in_s=None if retry is None else retry.after_s,
                claim=command.claims,
                counts=retry is None or retry.counts,
            ),
            what="finish command",
        )

"""Commands that ask WhatsApp for something beside messages: numbers, groups, profile, calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

from bridge.commands.payloads import (
    CheckNumbersPayload,
    ConversationPayload,
    GroupCreatePayload,
    GroupInvitePayload,
    GroupParticipantsPayload,
    GroupUpdatePayload,
    MessagePayload,
    NotAvailable,
    PersonPayload,
    SetProfilePayload,
    TypingPayload,
    parse,
)
from bridge.commands.ports import AccountPort
from bridge.errors import CommandError
from bridge.ids import Jid, spellings
from bridge.orders import (
    AskInvite,
    Block,
    ChangeGroup,
    ChangeParticipants,
    CheckNumbers,
    CreateGroup,
    LeaveGroup,
    RejectCall,
    SetProfile,
    ShowTyping,
)
from bridge.supabase.answers import ClaimedCommand, CommandContext, Target

# Answers that leave it open whether a group was made.
_IN_DOUBT = frozenset(
    {"whatsapp_timeout", "connection_lost", "engine_timeout", "engine_fault", "engine_died"}
)

Pictures = Callable[[Any, str], AbstractAsyncContextManager[Path]]
"""A picture of the bucket, by account and path, as a JPEG on this host."""


class OutcomeUnknown(CommandError):
    """It may have been done; doing it again would do it twice."""

    code = "outcome_unknown"


class CallGone(CommandError):
    """The call cannot be refused any more."""

    code = "call_gone"


class Asker:
    """Does what is asked by a command."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    async def do(
        self,
        account: AccountPort,
        command: ClaimedCommand,
        context: Callable[[], Awaitable[CommandContext]],
    ) -> Any:
        """Do it; gives the command's result.

        Args:
            account: that does it.
            command: what to do.
            context: asks the database what the command is about.

        Raises:
            CommandError: it cannot be done, and the sentence says why.
        """
        payload = command.payload
        match command.type:
            case "typing":
                state = parse(payload, TypingPayload).state
                await account.ask(ShowTyping(chat=_chat(command), state=state))
                return {}
            case "check_numbers":
                given = parse(payload, CheckNumbersPayload).numbers
                return await _check_numbers(account, given, await context())
            case "block" | "unblock":
                parse(payload, PersonPayload)
                blocked = command.type == "block"
                await account.ask(Block(person=_chat(command), blocked=blocked))
                return {"blocked": blocked}
            case "reject_call":
                parse(payload, MessagePayload)
                return await _reject_call(account, await context())
            case "set_profile":
                return await self._set_profile(account, parse(payload, SetProfilePayload))
            case _:
                return await self._on_group(account, command)

    async def _on_group(self, account: AccountPort, command: ClaimedCommand) -> Any:
        payload = command.payload
        match command.type:
            case "group_create":
                return await _create_group(account, parse(payload, GroupCreatePayload))
            case "group_update":
                return await self._update_group(
                    account, command, parse(payload, GroupUpdatePayload)
                )
            case "group_participants":
                change = parse(payload, GroupParticipantsPayload)
                changed = await account.ask(
                    ChangeParticipants(
                        chat=_chat(command),
                        action=change.action,
                        participants=change.participants,
                    )
                )
                return {"participants": changed}
            case "group_invite":
                invite = parse(payload, GroupInvitePayload)
                return await account.ask(AskInvite(chat=_chat(command), revoke=invite.revoke))
            case "group_leave":
                parse(payload, ConversationPayload)
                await account.ask(LeaveGroup(chat=_chat(command)))
                return {}
            case type_:
                raise NotAvailable(f"`{type_}` is not available in this version of the bridge.")

    async def _update_group(
        self, account: AccountPort, command: ClaimedCommand, payload: GroupUpdatePayload
    ) -> Any:
        async with AsyncExitStack() as stack:
            await account.ask(
                ChangeGroup(
                    chat=_chat(command),
                    subject=payload.subject,
                    description=payload.description,
                    announce=payload.announce,
                    locked=payload.locked,
                    picture_path=await self._picture(stack, account, payload.picture_path),
                )
            )
        return {}

    async def _set_profile(self, account: AccountPort, payload: SetProfilePayload) -> Any:
        async with AsyncExitStack() as stack:
            await account.ask(
                SetProfile(
                    name=payload.name,
                    status=payload.status,
                    picture_path=await self._picture(stack, account, payload.picture_path),
                )
            )
        return {}

    async def _picture(
        self,
        stack: AsyncExitStack,
        account: AccountPort,
        path: str | None,
    ) -> str | None:
        if path is None:
            return None
        return str(await stack.enter_async_context(self._pictures(account, path)))


async def _check_numbers(
    account: AccountPort, given: list[str], context: CommandContext
) -> list[dict[str, Any]]:
    digits = context.numbers or []
    asked = list(dict.fromkeys(each for number in digits for each in spellings(number)))
    answers = await account.ask(CheckNumbers(numbers=asked))
    known = {answer["number"]: answer for answer in answers if answer["jid"] is not None}
    result: list[dict[str, Any]] = []
    for number, wanted in zip(given, digits, strict=True):
        found = next((known[each] for each in spellings(wanted) if each in known), None)
        result.append(
            {
                "number": number,
                "exists": found is not None,
                "jid": found["jid"] if found else None,
                "lid": found["lid"] if found else None,
            }
        )
    return result


async def _create_group(account: AccountPort, payload: GroupCreatePayload) -> Any:
    try:
        made = await account.ask(
            CreateGroup(subject=payload.subject, participants=payload.participants)
        )
    except CommandError as fault:
        if fault.code in _IN_DOUBT:
            raise OutcomeUnknown(
                "WhatsApp did not say whether the group was made. Look at the phone."
            ) from None
        raise
    return {"jid": made["jid"], "subject": made["subject"], "participants": made["participants"]}


async def _reject_call(account: AccountPort, context: CommandContext) -> Any:
    call = context.target or Target()
    if call.call_id is None or call.sender_jid is None:
        raise CallGone("The call is not known any more.")
    await account.ask(RejectCall(caller=call.sender_jid, call_id=call.call_id))
    return {}


def _chat(command: ClaimedCommand) -> Jid:
    if command.chat_jid is None:
        raise CommandError("The database did not say where to.", code="recipient_unknown")
    return command.chat_jid

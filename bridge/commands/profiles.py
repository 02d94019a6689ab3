"""`refresh_profile`: what a person or group looks like and says of itself, asked now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bridge.commands.payloads import PersonPayload, parse
from bridge.commands.ports import AccountPort, ExecutorRpc
from bridge.errors import CommandError
from bridge.events import Person
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, is_group
from bridge.normalise.groups import row_of_group
from bridge.normalise.identity import person_of
from bridge.normalise.rows import PersonRow, ProfilePart, Row, to_json
from bridge.orders import AskGroup, AskPerson
from bridge.supabase.answers import ClaimedCommand
from bridge.supabase.patience import until_available

RefreshPicture = Callable[[AccountId, LeaseEpoch, CommandId], Awaitable[str]]
"""Fetches the picture that a command is about; `stored`, `unchanged`, `none` or `hidden`."""


class NotInGroup(CommandError):
    """WhatsApp tells nothing of groups that the account is not in."""

    code = "group_unavailable"


async def refresh_profile(
    rpc: ExecutorRpc, picture: RefreshPicture, account: AccountPort, command: ClaimedCommand
) -> dict[str, Any]:
    """Ask WhatsApp, record the answers, give them back.

    Raises:
        CommandError: it does not answer, or not to this account.
    """
    parse(command.payload, PersonPayload)
    if command.chat_jid is None:
        raise CommandError("The database did not say of whom.", code="recipient_unknown")
    ask = _group if is_group(command.chat_jid) else _person
    row, told = await ask(account, command.chat_jid)
    await until_available(
        lambda: rpc.record_events(command.account_id, command.lease_epoch, [to_json(row)]),
        what="record a profile",
    )
    return told | {"picture": await picture(command.account_id, command.lease_epoch, command.id)}


async def _group(account: AccountPort, jid: Jid) -> tuple[Row, dict[str, Any]]:
    told = await account.ask(AskGroup(chat=jid))
    if told is None:
        raise NotInGroup("The group is gone, or the account is not in it any more.")
    row = row_of_group(jid, told)
    return row, {
        "subject": row.subject,
        "description": row.description or None,
        "participants": len(row.participants or []),
    }


async def _person(account: AccountPort, jid: Jid) -> tuple[Row, dict[str, Any]]:
    told = await account.ask(AskPerson(person=jid))
    who = person_of(Person(phone_jid=jid, push_name=told["push_name"]))
    profile = ProfilePart(
        phone_jid=who.phone_jid,
        lid=who.lid,
        push_name=who.push_name,
        business_name=told["business_name"],
    )
    return PersonRow(person=profile), dict(told)

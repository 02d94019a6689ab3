"""What a command says, as something that somebody will see: `send`, `edit`, `revoke`, `react`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from bridge.commands.payloads import (
    BadPayload,
    ContactCard,
    EditPayload,
    MessagePayload,
    NotAvailable,
    ReactPayload,
    SendContactPayload,
    SendFilePayload,
    SendLocationPayload,
    SendPayload,
    SendPollPayload,
    SendTextPayload,
    parse,
)
from bridge.commands.ports import AccountPort, ExecutorRpc
from bridge.errors import CommandError
from bridge.ids import Jid, WhatsAppMessageId
from bridge.orders import (
    Card,
    Contact,
    Edit,
    LinkPreview,
    Location,
    Media,
    Outgoing,
    Poll,
    Quote,
    Reaction,
    Revoke,
    Said,
    Text,
)
from bridge.supabase.answers import ClaimedCommand, CommandContext, Target, TargetFile
from bridge.supabase.patience import until_available

# What apps show of an answered message; more would only be carried along.
QUOTE_CHARS = 1000

SEND_SHAPES: dict[str, type[SendPayload]] = {
    "text": SendTextPayload,
    "image": SendFilePayload,
    "video": SendFilePayload,
    "document": SendFilePayload,
    "audio": SendFilePayload,
    "sticker": SendFilePayload,
    "location": SendLocationPayload,
    "contact": SendContactPayload,
    "poll": SendPollPayload,
}
OUTGOING_TYPES = frozenset({"send", "edit", "revoke", "react"})


class MessageNotSent(CommandError):
    """What the command is about is not at WhatsApp."""

    code = "message_not_sent"


class Files(Protocol):
    """Who prepares files to be sent (`bridge.media.outgoing.Outbox`)."""

    async def prepare(
        self,
        command: ClaimedCommand,
        account: Any,
        *,
        kind: str,
        storage_path: str | None = None,
        media_url: str | None = None,
        file_name: str | None = None,
        mime_type: str | None = None,
        voice_note: bool = False,
        attach: bool = True,
    ) -> Media:
        """The file as WhatsApp has it then; `attach`: it is the file of the command's message."""


class Previews(Protocol):
    """Who looks at the pages that texts name."""

    async def of(self, text: str) -> LinkPreview | None:
        """Of the first link in a text; None if there is nothing to show."""


@dataclass(frozen=True, slots=True)
class _AtWhatsApp:
    """A message that can be changed there."""

    id: WhatsAppMessageId
    sender: Jid
    from_me: bool
    tipo: str
    file: TargetFile | None


class Composer:
    """Makes orders out of commands."""

    def __init__(self, rpc: ExecutorRpc, files: Files, previews: Previews) -> None:
        self._rpc = rpc
        self._files = files
        self._previews = previews

    async def compose(self, account: AccountPort, command: ClaimedCommand) -> Outgoing:
        """The order of a command.

        Raises:
            CommandError: it cannot be done, and the sentence says why.
        """
        match command.type:
            case "edit":
                return await self._edit(account, command, parse(command.payload, EditPayload))
            case "revoke":
                parse(command.payload, MessagePayload)
                target = await self._target(command)
                return Revoke(
                    target=target.id, target_sender=target.sender, target_from_me=target.from_me
                )
            case "react":
                react = parse(command.payload, ReactPayload)
                target = await self._target(command)
                return Reaction(
                    target=target.id,
                    target_sender=target.sender,
                    target_from_me=target.from_me,
                    emoji=react.emoji,
                )
            case _:
                return await self._message(account, command)

    async def _edit(self, account: AccountPort, command: ClaimedCommand, edit: EditPayload) -> Edit:
        target = await self._target(command)
        order = Edit(target=target.id, text=edit.text, mentions=edit.mentions)
        if target.tipo == "text":
            return order
        if target.file is None:
            raise MessageNotSent("The file of the message is not in the bucket (any more).")
        # apps take a caption only with the whole message, so the file is uploaded once more
        media = await self._files.prepare(
            command,
            account,
            kind=target.tipo,
            storage_path=target.file.path,
            file_name=target.file.file_name,
            mime_type=target.file.mime_type,
            attach=False,
        )
        media = msgspec.structs.replace(media, caption=edit.text, mentions=edit.mentions)
        return msgspec.structs.replace(order, media=media)

    async def _message(self, account: AccountPort, command: ClaimedCommand) -> Outgoing:
        payload = send_payload(command)
        quote = await self._quote(command, payload)
        return msgspec.structs.replace(
            await self._said(account, command, payload),
            quote=quote,
            forwarded=payload.forwarded,
            disappears_after_s=payload.disappears_after_s,
        )

    async def _said(
        self, account: AccountPort, command: ClaimedCommand, payload: SendPayload
    ) -> Said:
        match payload:
            case SendTextPayload():
                return Text(
                    text=payload.text,
                    mentions=payload.mentions,
                    preview=await self._preview(payload),
                )
            case SendLocationPayload():
                return Location(
                    latitude=payload.latitude,
                    longitude=payload.longitude,
                    name=payload.name,
                    address=payload.address,
                    live=payload.live,
                    caption=payload.caption,
                )
            case SendContactPayload():
                return Contact(cards=_cards(payload))
            case SendPollPayload():
                return Poll(
                    question=payload.question,
                    options=payload.options,
                    selectable=payload.selectable,
                )
            case SendFilePayload():
                media = await self._file(account, command, payload)
                return msgspec.structs.replace(
                    media,
                    caption=payload.caption or None,
                    view_once=payload.view_once,
                    mentions=payload.mentions,
                )
            case _:
                raise NotAvailable(f"`send` cannot do type {payload.type!r} in this version.")

    async def _file(
        self, account: AccountPort, command: ClaimedCommand, payload: SendFilePayload
    ) -> Media:
        return await self._files.prepare(
            command,
            account,
            kind=payload.type,
            storage_path=payload.storage_path,
            media_url=payload.media_url,
            file_name=payload.file_name,
            mime_type=payload.mime_type,
            voice_note=payload.ptt,
        )

    async def _preview(self, payload: SendTextPayload) -> LinkPreview | None:
        return await self._previews.of(payload.text) if payload.link_preview else None

    async def _quote(self, command: ClaimedCommand, payload: SendPayload) -> Quote | None:
        if payload.quoted_message_id is None:
            return None
        target = (await self.context(command)).target
        if target is None or target.whatsapp_message_id is None or target.sender_jid is None:
            raise MessageNotSent("The message to be answered is not at WhatsApp.")
        return Quote(
            id=target.whatsapp_message_id,
            sender=target.sender_jid,
            text=target.text[:QUOTE_CHARS],
        )

    async def _target(self, command: ClaimedCommand) -> _AtWhatsApp:
        target = (await self.context(command)).target or Target()
        if target.whatsapp_message_id is None or target.sender_jid is None:
            raise MessageNotSent("The message is not at WhatsApp, so it cannot be changed there.")
        if target.revoked:
            raise MessageNotSent("The message was deleted meanwhile.")
        return _AtWhatsApp(
            target.whatsapp_message_id, target.sender_jid, target.from_me, target.tipo, target.file
        )

    async def context(self, command: ClaimedCommand) -> CommandContext:
        """What the database knows about a command."""
        return await until_available(
            lambda: self._rpc.command_context(command.account_id, command.lease_epoch, command.id),
            what="look up what a command is about",
        )


def _cards(payload: SendContactPayload) -> list[Card]:
    cards = payload.contacts or []
    if payload.name is not None and payload.numbers is not None:
        cards = [ContactCard(name=payload.name, numbers=payload.numbers), *cards]
    if not cards:
        raise BadPayload("The payload is wrong: there is no contact in it.")
    return [Card(name=card.name, numbers=card.numbers) for card in cards]


def send_payload(command: ClaimedCommand) -> SendPayload:
    """The payload of a `send`.

    Raises:
        CommandError: saying what is wrong.
    """
    kind = command.payload.get("type")
    shape = SEND_SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise NotAvailable(f"`send` cannot do type {kind!r} in this version.")
    return parse(command.payload, shape)

"""The routes of the control API. Errors are ``{"error": {"code", "message"}}``."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from aiohttp import web

from bridge.sandbox.whatsapp.control import answers, bodies
from bridge.sandbox.whatsapp.control.bodies import ControlError, parse, parse_number
from bridge.sandbox.whatsapp.control.group_changes import change_group
from bridge.sandbox.whatsapp.control.qr_image import QrImageUnreadable, qr_text
from bridge.sandbox.whatsapp.control.sending import send
from bridge.sandbox.whatsapp.crypto.ciphers import CipherError
from bridge.sandbox.whatsapp.crypto.device_identity import QrUnreadable
from bridge.sandbox.whatsapp.crypto.media_cipher import decrypt_media
from bridge.sandbox.whatsapp.phone.history import PastConversation
from bridge.sandbox.whatsapp.phone.link_code import WrongCode
from bridge.sandbox.whatsapp.phone.phone import Phone, UnknownRecipient
from bridge.sandbox.whatsapp.server.records import Account, Group
from bridge.sandbox.whatsapp.simulator import LinkingRefused, Simulator, past_address

_MAX_WAIT_S = 60.0
_TYPING_STATES = ("composing", "recording", "paused")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def control_app(simulator: Simulator) -> web.Application:
    """The control API of one simulator."""
    app = web.Application(client_max_size=bodies.MAX_BODY_BYTES, middlewares=[_answer_errors])
    control = _Control(simulator)
    one = "/phones/{number}"
    app.add_routes(
        [
            web.get("/trust", control.trust),
            web.get("/state", control.state),
            web.get("/phones", control.list_phones),
            web.post("/phones", control.add_phone),
            web.get(one, control.show_phone),
            web.patch(one, control.change_phone),
            web.delete(one, control.remove_phone),
            web.post(f"{one}/scan", control.scan),
            web.post(f"{one}/link-code", control.link_code),
            web.post(f"{one}/unlink", control.unlink),
            web.post(f"{one}/messages", control.send_message),
            web.get(f"{one}/inbox", control.inbox),
            web.get(f"{one}/media/{{id}}", control.media),
            web.post(f"{one}/read", control.read),
            web.post(f"{one}/typing", control.typing),
            web.post(f"{one}/calls", control.call),
            web.post(f"{one}/calls/{{id}}/end", control.end_call),
            web.post(f"{one}/history", control.history),
            web.post(f"{one}/contacts", control.add_contact),
            web.post(f"{one}/chats", control.change_chat),
            web.get("/groups", control.list_groups),
            web.post("/groups", control.add_group),
            web.patch("/groups/{jid}", control.change_group),
            web.get("/faults", control.list_faults),
            web.post("/faults", control.start_fault),
            web.delete("/faults", control.clear_faults),
        ]
    )
    return app


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )


def _error(status: int, code: str, sentence: str) -> web.Response:
    return _json({"error": {"code": code, "message": sentence}}, status)


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ControlError as error:
        return _error(error.status, error.code, error.sentence)
    except UnknownRecipient as error:
        return _error(404, "unknown_recipient", str(error))
    except (QrUnreadable, QrImageUnreadable) as error:
        return _error(400, "bad_qr", str(error))
    except WrongCode as error:
        return _error(409, "wrong_code", str(error))
    except LinkingRefused as error:
        return _error(409, error.code, error.sentence)
    except web.HTTPException as error:
        return _error(error.status, "http", f"{request.method} {request.path}: {error.reason}.")


class _Control:
    """One method a route."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    # ------------------------------------------------------------------ phones

    async def list_phones(self, _request: web.Request) -> web.Response:
        """All phones."""
        phones = self._simulator.phones.values()
        return _json({"phones": [answers.phone_json(phone) for phone in phones]})

    async def add_phone(self, request: web.Request) -> web.Response:
        """A new WhatsApp user."""
        body = parse(await request.read(), bodies.NewPhone)
        number = parse_number(body.number)
        if body.addressing not in ("lid", "pn"):
            raise ControlError(400, "bad_request", "`addressing` is lid or pn.")
        if number in self._simulator.phones:
            raise ControlError(409, "phone_exists", f"There is a phone {number} already.")
        phone = self._simulator.add_phone(number, body.name or number, body.addressing)
        self._changed()
        return _json(answers.phone_json(phone), 201)

    async def show_phone(self, request: web.Request) -> web.Response:
        """One phone."""
        return _json(answers.phone_json(self._phone(request)))

    async def change_phone(self, request: web.Request) -> web.Response:
        """On or off the network; what others see of the person; whom the person blocks."""
        body = parse(await request.read(), bodies.PhoneChange)
        phone = self._phone(request)
        if body.name is not None:
            phone.account.name = body.name
        if body.about is not None:
            phone.account.about = body.about
        if body.business_name is not None:
            phone.account.business_name = body.business_name
        if body.picture_hidden_from is not None:
            phone.account.picture_hidden_from = body.picture_hidden_from
        if body.blocked is not None:
            wanted = [account.number for account in self._accounts(body.blocked)]
            self._simulator.server.blocklists.change(phone.account, wanted)
        if body.picture_base64 is not None:
            picture = bodies.bytes_of(body.picture_base64)
            self._simulator.server.pictures.change_of_person(phone.account, picture)
        if body.online is not None:
            phone.set_online(online=body.online)
        self._changed()
        return _json(answers.phone_json(phone))

    async def remove_phone(self, request: web.Request) -> web.Response:
        """Delete the account."""
        self._simulator.remove_phone(self._phone(request))
        self._changed()
        return _json({})

    # ------------------------------------------------------------------ linking

    async def scan(self, request: web.Request) -> web.Response:
        """Link a companion by its QR code."""
        body = parse(await request.read(), bodies.Scan)
        device = await self._simulator.scan(self._phone(request), qr_text(body.qr))
        self._changed()
        return _json(answers.device_json(device, self._simulator.server))

    async def link_code(self, request: web.Request) -> web.Response:
        """Link a companion by its code."""
        body = parse(await request.read(), bodies.LinkCode)
        device = await self._simulator.enter_code(self._phone(request), body.code)
        self._changed()
        return _json(answers.device_json(device, self._simulator.server))

    async def unlink(self, request: web.Request) -> web.Response:
        """Log linked devices out."""
        body = parse(await request.read(), bodies.Unlink)
        phone = self._phone(request)
        devices = [each for each in phone.account.companions() if body.device in (None, each.id)]
        if body.device is not None and not devices:
            raise ControlError(404, "unknown_device", f"There is no linked device {body.device}.")
        for device in devices:
            self._simulator.server.linking.unlink(device, say_so=True)
        self._changed()
        return _json({"unlinked": [device.id for device in devices]})

    # ------------------------------------------------------------------ messages

    async def send_message(self, request: web.Request) -> web.Response:
        """The phone sends."""
        body = parse(await request.read(), bodies.NewMessage)
        id_ = send(self._phone(request), body)
        self._changed()
        return _json({"id": id_})

    async def inbox(self, request: web.Request) -> web.Response:
        """What the phone got, after a number; waits up to `wait_s` for something."""
        phone = self._phone(request)
        after = int(_number_in(request.query, "after"))
        wait_s = min(_number_in(request.query, "wait_s"), _MAX_WAIT_S)
        entries = await phone.inbox.wait_after(after, wait_s)
        return _json({"entries": entries, "last": entries[-1].seq if entries else after})

    async def media(self, request: web.Request) -> web.Response:
        """The decrypted file of a message that the phone got."""
        phone = self._phone(request)
        id_ = request.match_info["id"]
        message = phone.inbox.message(id_)
        if message is None or message.media is None:
            raise ControlError(
                404, "unknown_message", f"This phone got no file with message {id_}."
            )
        note = message.media
        blob = self._simulator.server.media.get(note.direct_path)
        if blob is None:
            raise ControlError(404, "media_gone", "The media host does not have this file.")
        try:
            data = decrypt_media(blob, note.kind, base64.b64decode(note.media_key))
        except CipherError as error:
            raise ControlError(409, "media_damaged", "The file does not decrypt.") from error
        return web.Response(body=data, headers={"Content-Type": note.mime_type})

    async def read(self, request: web.Request) -> web.Response:
        """Send read receipts."""
        body = parse(await request.read(), bodies.Read)
        unknown = self._phone(request).read(body.ids, played=body.played)
        if unknown:
            raise ControlError(404, "unknown_message", f"This phone did not get {unknown}.")
        self._changed()
        return _json({})

    async def typing(self, request: web.Request) -> web.Response:
        """Show others that the person types."""
        body = parse(await request.read(), bodies.ShowTyping)
        if body.state not in _TYPING_STATES:
            raise ControlError(
                400, "bad_request", f"`state` is one of {', '.join(_TYPING_STATES)}."
            )
        phone = self._phone(request)
        phone.show_typing(phone.chat_of(body.to), body.state)
        return _json({})

    async def call(self, request: web.Request) -> web.Response:
        """Let it ring at a person, or in a group."""
        body = parse(await request.read(), bodies.NewCall)
        phone = self._phone(request)
        id_ = secrets.token_hex(16).upper()
        calls = self._simulator.server.calls
        calls.ring(phone.account, self._called(phone, body.to), id_, video=body.video)
        self._changed()
        return _json({"id": id_}, 201)

    async def end_call(self, request: web.Request) -> web.Response:
        """Hang up."""
        body = parse(await request.read(), bodies.CallEnd)
        phone = self._phone(request)
        called = self._called(phone, body.to)
        id_ = request.match_info["id"]
        self._simulator.server.calls.end(phone.account, called, id_, body.reason)
        self._changed()
        return _json({})

    def _called(self, phone: Phone, to: str) -> Account | Group:
        directory = self._simulator.server.directory
        chat = phone.chat_of(to)
        called = directory.group(chat) or directory.account(chat)
        if called is None:
            raise ControlError(404, "unknown_recipient", f"There is no phone {to}.")
        return called

    async def history(self, request: web.Request) -> web.Response:
        """Set what the next history sync contains."""
        body = parse(await request.read(), bodies.NewHistory)
        phone = self._phone(request)
        past = [_with_contents(phone, conversation) for conversation in body.conversations]
        for conversation in past:
            past_address(phone, conversation.to)
            for message in conversation.messages:
                if message.sender:
                    past_address(phone, message.sender)
        phone.state.history = past
        phone.state.history_chunks = max(1, body.chunks)
        phone.state.history_withheld = body.withheld
        if not body.withheld:
            self._simulator.server.media.release()
        devices = self._simulator.send_history_now(phone, past) if body.now else 0
        self._changed()
        return _json({"sent_to_devices": devices})

    async def add_contact(self, request: web.Request) -> web.Response:
        """Put somebody into the address book."""
        body = parse(await request.read(), bodies.NewContact)
        phone = self._phone(request)
        if not body.name.strip():
            raise ControlError(400, "bad_request", "`name` is empty.")
        self._simulator.add_contact(phone, self._named(body.number), body.name)
        self._changed()
        return _json({})

    async def change_chat(self, request: web.Request) -> web.Response:
        """Archive, pin or mute a chat, or no longer."""
        body = parse(await request.read(), bodies.ChatChange)
        phone = self._phone(request)
        self._simulator.change_chat(
            phone,
            phone.chat_of(body.to),
            archived=body.archived,
            pinned=body.pinned,
            muted_until=body.muted_until,
        )
        self._changed()
        return _json({})

    # ------------------------------------------------------------------ groups

    async def list_groups(self, _request: web.Request) -> web.Response:
        """All groups."""
        groups = self._simulator.server.directory.groups.values()
        return _json({"groups": [answers.group_json(group) for group in groups]})

    async def add_group(self, request: web.Request) -> web.Response:
        """A new group."""
        body = parse(await request.read(), bodies.NewGroup)
        members = self._all_named(body.participants)
        if body.owner is not None:
            members = [self._named(body.owner), *members]
        if not members:
            raise ControlError(400, "bad_request", "A group has at least one participant.")
        if not body.subject.strip():
            raise ControlError(400, "bad_request", "`subject` is empty.")
        group = self._simulator.add_group(members[0], body.subject, members)
        self._changed()
        return _json(answers.group_json(group), 201)

    async def change_group(self, request: web.Request) -> web.Response:
        """Subject and members."""
        body = parse(await request.read(), bodies.GroupChange)
        group = self._group(request)
        actor = self._named(body.actor or group.owner).account
        server = self._simulator.server
        change_group(server.groups, server.pictures, group, actor, body, self._accounts)
        self._changed()
        return _json(answers.group_json(group))

    # ------------------------------------------------------------------ the server

    async def trust(self, _request: web.Request) -> web.Response:
        """What a client needs to reach the simulator."""
        return _json(answers.trust_json(self._simulator.server))

    async def state(self, _request: web.Request) -> web.Response:
        """Everything."""
        return _json(answers.state_json(self._simulator))

    async def list_faults(self, _request: web.Request) -> web.Response:
        """The faults that last."""
        faults = self._simulator.server.faults.present()
        return _json({"faults": [answers.fault_json(fault) for fault in faults]})

    async def start_fault(self, request: web.Request) -> web.Response:
        """Begin a fault."""
        body = parse(await request.read(), bodies.NewFault)
        number = None if body.number is None else self._named(body.number).account.number
        for name, value in (("for_s", body.for_s), ("delay_s", body.delay_s)):
            if value is not None and value <= 0:
                raise ControlError(400, "bad_request", f"`{name}` is more than 0.")
        met = self._simulator.server.faults.start(
            body.kind, number=number, for_s=body.for_s, delay_s=body.delay_s
        )
        return _json({"connections": met})

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """End all faults."""
        self._simulator.server.faults.clear()
        return _json({})

    # ------------------------------------------------------------------ finding things

    def _phone(self, request: web.Request) -> Phone:
        return self._named(request.match_info["number"])

    def _named(self, text: str) -> Phone:
        number = parse_number(text)
        phone = self._simulator.phones.get(number)
        if phone is None:
            raise ControlError(404, "unknown_phone", f"There is no phone {number}.")
        return phone

    def _accounts(self, numbers: Sequence[str]) -> list[Account]:
        return [phone.account for phone in self._all_named(numbers)]

    def _all_named(self, numbers: Sequence[str]) -> list[Phone]:
        return [self._named(number) for number in numbers]

    def _group(self, request: web.Request) -> Group:
        jid = request.match_info["jid"]
        group = self._simulator.server.directory.groups.get(jid.removesuffix("@g.us"))
        if group is None:
            raise ControlError(404, "unknown_group", f"There is no group {jid}.")
        return group

    def _changed(self) -> None:
        self._simulator.server.on_change()


def _with_contents(phone: Phone, past: PastConversation) -> PastConversation:
    messages = []
    for message in past.messages:
        known = phone.state.known.get(message.like or "")
        if message.like and known is None:
            raise ControlError(404, "unknown_message", f"This phone knows no {message.like}.")
        raw = known.raw if known else message.raw
        messages.append(msgspec.structs.replace(message, raw=raw, like=None))
    return msgspec.structs.replace(past, messages=messages)


def _number_in(query: Mapping[str, str], name: str) -> float:
    try:
        return max(0.0, float(query.get(name, "0")))
    except ValueError as error:
        raise ControlError(400, "bad_request", f"`{name}` is not a number.") from error

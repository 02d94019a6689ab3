"""What a phone and a frontend send of each kind, and what the row of it says: data for tests.

The names are those of the first column of the table in `docs/kinds.md`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.json_format import ParseDict

from bridge.sandbox.whatsapp.codec import protobuf
from tests.acceptance.conftest import Row
from tests.acceptance.files import sample
from tests.unit.engine.protobufs import e2e

PLACE = {"latitude": -23.5613, "longitude": -46.6565}
ANA, BIA = {"name": "Ana", "number": "5511987654321"}, {"name": "Bia", "number": "12125550100"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One line of the table.

    Attributes:
        tipo, conteudo, payload: what the row says; of the payload, at least that.
        phone: what the simulated phone is told to send (`control.bodies.NewMessage`).
        message: protobuf JSON of what it sends, for kinds that the simulator has no name for.
        command: the payload of `send`, without `to`; None if nobody but WhatsApp can send it.
        seen: what of the phone's inbox entry is compared after that.
        file: which sample of a file goes with it.
    """

    tipo: str
    conteudo: str | None
    payload: Row = field(default_factory=dict)
    phone: Row = field(default_factory=dict)
    message: Row | None = None
    command: Row | None = None
    seen: Row = field(default_factory=dict)
    file: str | None = None

    def told(self, me: str, data: bytes | None, quoted: str | None = None) -> Row:
        """The body for the simulator; `me` is whose message is quoted."""
        if self.message is None:
            media = {"media_base64": base64.b64encode(data).decode()} if data is not None else {}
            return self.phone | media | ({"quoted_id": quoted} if quoted else {})
        message = ParseDict(self.message, e2e.Message())
        if quoted:
            ((_, body),) = message.ListFields()
            body.contextInfo.stanzaID = quoted
            body.contextInfo.participant = f"{me}@s.whatsapp.net"
            body.contextInfo.quotedMessage.conversation = "?"
        raw = base64.b64encode(message.SerializeToString()).decode()
        return {"type": "raw", "message_base64": raw} | self.phone


def file_of(kind: Kind, folder: Path) -> tuple[bytes, str] | None:
    """Bytes that no other test has, and their type."""
    return sample(kind.file, folder) if kind.file else None


def business(name: str, conteudo: str, message: Row, *, tipo: str = "text") -> Kind:
    """What only WhatsApp's business API sends."""
    return Kind(tipo=tipo, conteudo=conteudo, payload={"kind": name}, message=message)


KINDS: dict[str, Kind] = {
    "text": Kind(
        tipo="text",
        conteudo="Bom dia",
        phone={"type": "text", "text": "Bom dia"},
        command={"type": "text", "text": "Bom dia"},
        seen={"type": "text", "text": "Bom dia"},
    ),
    "image": Kind(
        tipo="image",
        conteudo="a vista",
        phone={"type": "image", "caption": "a vista"},
        command={"type": "image", "caption": "a vista"},
        seen={"type": "image", "text": "a vista"},
        file="image",
    ),
    "video": Kind(
        tipo="video",
        conteudo="o mar",
        phone={"type": "video", "caption": "o mar"},
        command={"type": "video", "caption": "o mar"},
        seen={"type": "video", "text": "o mar"},
        file="video",
    ),
    "audio file": Kind(
        tipo="audio",
        conteudo=None,
        phone={"type": "audio", "mime_type": "audio/ogg"},
        command={"type": "audio"},
        seen={"type": "audio"},
        file="audio",
    ),
    "voice note": Kind(
        tipo="audio",
        conteudo=None,
        payload={"voice_note": True},
        phone={"type": "audio", "voice_note": True},
        command={"type": "audio", "ptt": True},
        seen={"type": "audio"},
        file="audio",
    ),
    "document": Kind(
        tipo="document",
        conteudo="segue a conta",
        phone={"type": "document", "caption": "segue a conta", "file_name": "conta.pdf"},
        command={"type": "document", "caption": "segue a conta", "file_name": "conta.pdf"},
        seen={"type": "document", "text": "segue a conta"},
        file="document",
    ),
    "sticker": Kind(
        tipo="sticker",
        conteudo=None,
        phone={"type": "sticker"},
        command={"type": "sticker"},
        seen={"type": "sticker"},
        file="sticker",
    ),
    "location": Kind(
        tipo="location",
        conteudo="MASP",
        payload=PLACE | {"live": False, "name": "MASP", "address": "Av. Paulista"},
        phone={"type": "location", **PLACE, "name": "MASP", "address": "Av. Paulista"},
        command={"type": "location", **PLACE, "name": "MASP", "address": "Av. Paulista"},
        seen={"type": "location", "details": PLACE | {"name": "MASP", "address": "Av. Paulista"}},
    ),
    "live location": Kind(
        tipo="location",
        conteudo="a caminho",
        payload=PLACE | {"live": True, "caption": "a caminho"},
        phone={"type": "location", **PLACE, "live": True, "name": "a caminho"},
        command={"type": "location", **PLACE, "live": True, "caption": "a caminho"},
        seen={"type": "location", "text": "a caminho", "details": PLACE | {"live": True}},
    ),
    "contact card": Kind(
        tipo="contact",
        conteudo="Ana",
        phone={"type": "contact", "contacts": [ANA]},
        command={"type": "contact", "name": "Ana", "numbers": ["(11) 98765-4321"]},
        seen={"type": "contact", "text": "Ana"},
    ),
    "several contact cards": Kind(
        tipo="contact",
        conteudo="Ana, Bia",
        phone={"type": "contact", "contacts": [ANA, BIA]},
        command={
            "type": "contact",
            "contacts": [
                {"name": "Ana", "numbers": ["(11) 98765-4321"]},
                {"name": "Bia", "numbers": ["+1 212 555 0100"]},
            ],
        },
        seen={"type": "contact", "text": "Ana, Bia"},
    ),
    "poll with one choice": Kind(
        tipo="poll",
        conteudo="Onde?",
        payload={
            "question": "Onde?",
            "options": [{"name": "aqui"}, {"name": "lá"}],
            "selectable": 1,
        },
        phone={"type": "poll", "text": "Onde?", "options": ["aqui", "lá"]},
        command={"type": "poll", "question": "Onde?", "options": ["aqui", "lá"]},
        seen={
            "type": "poll",
            "text": "Onde?",
            "details": {"options": ["aqui", "lá"], "selectable": 1},
        },
    ),
    "poll with several choices": Kind(
        tipo="poll",
        conteudo="Quando?",
        payload={"options": [{"name": "hoje"}, {"name": "amanhã"}], "selectable": 2},
        phone={"type": "poll", "text": "Quando?", "options": ["hoje", "amanhã"], "selectable": 2},
        command={
            "type": "poll",
            "question": "Quando?",
            "options": ["hoje", "amanhã"],
            "selectable": 2,
        },
        seen={"type": "poll", "details": {"options": ["hoje", "amanhã"], "selectable": 2}},
    ),
    "view-once that is given": Kind(
        tipo="image",
        conteudo=None,
        payload={"view_once": True},
        phone={"type": "image", "view_once": True},
        command={"type": "image", "view_once": True},
        seen={"type": "image", "details": {"view_once": True}},
        file="image",
    ),
    "forwarded": Kind(
        tipo="text",
        conteudo="leia",
        payload={"forwarded": True},
        phone={"type": "text", "text": "leia", "forwarded": True},
        command={"type": "text", "text": "leia", "forwarded": True},
        seen={"type": "text", "text": "leia", "details": {"forwarded": True}},
    ),
    "buttons": business(
        "buttons",
        "Confirma?\n• Sim",
        {
            "buttonsMessage": {
                "contentText": "Confirma?",
                "buttons": [{"buttonID": "y", "buttonText": {"displayText": "Sim"}}],
            }
        },
    ),
    "list": business(
        "list",
        "Menu\nEscolha\n• Boleto",
        {
            "listMessage": {
                "title": "Menu",
                "description": "Escolha",
                "sections": [{"rows": [{"rowID": "1", "title": "Boleto"}]}],
            }
        },
    ),
    "template": business(
        "template",
        "Saiu para entrega",
        {"templateMessage": {"hydratedTemplate": {"hydratedContentText": "Saiu para entrega"}}},
    ),
    "interactive": business(
        "interactive",
        "Pague\n• Copiar",
        {
            "interactiveMessage": {
                "body": {"text": "Pague"},
                "nativeFlowMessage": {
                    "buttons": [{"name": "a", "buttonParamsJSON": '{"display_text": "Copiar"}'}]
                },
            }
        },
    ),
    "answer to buttons": business(
        "buttons_reply",
        "Sim",
        {"buttonsResponseMessage": {"selectedButtonID": "y", "selectedDisplayText": "Sim"}},
    ),
    "answer to a list": business(
        "list_reply",
        "Boleto",
        {"listResponseMessage": {"title": "Boleto", "singleSelectReply": {"selectedRowID": "1"}}},
    ),
    "answer to a template": business(
        "template_reply",
        "Ok",
        {"templateButtonReplyMessage": {"selectedID": "ok", "selectedDisplayText": "Ok"}},
    ),
    "answer to an interactive message": business(
        "interactive_reply", "Feito", {"interactiveResponseMessage": {"body": {"text": "Feito"}}}
    ),
    "product": business("product", "Caneca", {"productMessage": {"product": {"title": "Caneca"}}}),
    "order": business(
        "order", "Pedido\nQuero", {"orderMessage": {"orderTitle": "Pedido", "message": "Quero"}}
    ),
    "event": business("event", "Reunião", {"eventMessage": {"name": "Reunião"}}),
    "group invite": business(
        "group_invite",
        "Clientes\nhttps://chat.whatsapp.com/AbC",
        {"groupInviteMessage": {"inviteCode": "AbC", "groupName": "Clientes"}},
    ),
    "anything else": Kind(
        tipo="unsupported",
        conteudo=None,
        payload={"raw_type": "field4095"},
        phone={
            "type": "raw",
            "message_base64": base64.b64encode(
                protobuf.encode((4095, protobuf.encode((1, "x"))))
            ).decode(),
        },
    ),
}

"""Whatever a stranger writes becomes rows that the database takes; never an exception."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.events import MessageReceived, Person
from bridge.ids import Jid, WhatsAppMessageId
from bridge.normalise import rows_of, to_json
from bridge.normalise.content import content_of
from bridge.normalise.fields import MAX_TEXT_CHARS
from tests.unit.engine.protobufs import e2e

TIPOS = {
    *("text", "image", "video", "audio", "document", "sticker", "location", "contact", "poll"),
    *("call", "system", "unsupported"),
}
KINDS = {"message", "edit", "revoke", "reaction", "poll_vote", "pin", "diagnostic"}

fields = sorted(
    {
        name
        for message in (e2e.Message, e2e.ContextInfo)
        for name in message.DESCRIPTOR.fields_by_name
    }
    | {
        "contextInfo",
        "key",
        "type",
        "text",
        "caption",
        "options",
        "message",
        "ID",
        "fromMe",
        "vcard",
    }
    | {"degreesLatitude", "fileLength", "waveform", "JPEGThumbnail", "contacts", "buttons", "body"}
    | {"nativeFlowMessage", "buttonParamsJSON", "selectableOptionsCount", "editedMessage", "name"}
)
words = st.sampled_from(
    [*fields, "REVOKE", "MESSAGE_EDIT", "EPHEMERAL_SETTING", "NaN", "\x00", "12"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=10)
    | words
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
messages = st.dictionaries(words, values, max_size=4)


def received(message: dict[str, Any], **more: Any) -> MessageReceived:
    person = Person(phone_jid=Jid("1@s.whatsapp.net"), lid=Jid("1@lid"))
    return MessageReceived(
        id=WhatsAppMessageId("A"),
        chat=Jid("1@lid"),
        peer=person,
        sender=person,
        from_me=False,
        sent_at=1.0,
        message=message,
        **more,
    )


def check(event: MessageReceived) -> None:
    for row in rows_of(event):
        built = to_json(row)
        assert built["kind"] in KINDS
        text = json.dumps(built, allow_nan=False)  # no NaN: PostgreSQL has none in JSON
        assert "\\u0000" not in text
        text.encode()
        if built["kind"] == "message":
            assert built["tipo"] in TIPOS
            assert len(built["conteudo"] or "") <= MAX_TEXT_CHARS
            assert isinstance(built["payload"], dict)
        if built["kind"] == "edit":
            assert isinstance(built["conteudo"], str)


@given(messages, st.sampled_from(["", "1", "7", "8"]), st.booleans())
@settings(max_examples=150)
def test_any_json_becomes_rows(message: dict[str, Any], edit: str, view_once: bool) -> None:
    check(received(message, edit=edit, view_once=view_once, poll_vote=["00"]))


def filled(descriptor: Descriptor, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Protobuf JSON of a message in which any fields are set, to their own types."""
    return st.lists(st.sampled_from(list(descriptor.fields)), max_size=3, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({f.json_name: value_of(f, depth) for f in chosen})
    )


def value_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    one: st.SearchStrategy[Any]
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE:
            assert field.message_type is not None
            one = filled(field.message_type, depth - 1) if depth else st.just({})
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            one = st.sampled_from([value.name for value in field.enum_type.values])
        case FieldDescriptor.TYPE_BYTES:
            one = st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode())
        case FieldDescriptor.TYPE_STRING:
            one = st.text(max_size=20)
        case FieldDescriptor.TYPE_BOOL:
            one = st.booleans()
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            one = st.floats(width=32) | st.sampled_from(["NaN", "Infinity"])
        case FieldDescriptor.TYPE_INT64 | FieldDescriptor.TYPE_UINT64:
            one = st.integers(0, 2**64 - 1).map(str)
        case _:
            one = st.integers(0, 2**31 - 1)
    return st.lists(one, max_size=3) if getattr(field, "is_repeated", False) else one


@given(st.data())
@settings(max_examples=120)
def test_anything_that_the_protobuf_can_hold_becomes_rows(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(list(e2e.Message.DESCRIPTOR.fields)))
    check(received({field.json_name: data.draw(value_of(field, 3))}, poll_vote=[]))


@pytest.mark.parametrize("field", e2e.Message.DESCRIPTOR.fields_by_name)
def test_every_kind_that_exists_is_handled_when_it_is_empty(field: str) -> None:
    message = e2e.Message()
    if e2e.Message.DESCRIPTOR.fields_by_name[field].message_type is None:
        setattr(message, field, "")
    else:
        getattr(message, field).SetInParent()
    check(received(MessageToDict(message)))


def test_a_wrapper_in_a_wrapper_in_a_wrapper_ends() -> None:
    message: dict[str, Any] = {"conversation": "x"}
    for _ in range(200):
        message = {"ephemeralMessage": {"message": message}}
    content = content_of(message)
    assert content is not None
    assert content.tipo == "unsupported"


def test_a_huge_caption_is_cut() -> None:
    content = content_of({"imageMessage": {"caption": "x" * 10_000_000}})
    assert content is not None
    assert len(content.conteudo or "") == MAX_TEXT_CHARS

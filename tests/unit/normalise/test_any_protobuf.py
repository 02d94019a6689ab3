"""Whatever the library's types can hold becomes rows that the database takes; never an exception.

From the protobuf on, as the engine gets it: translated, normalised, and made JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.engine import news, past, translate
from bridge.engine.history import Record
from bridge.events import Person, SpooledEvent
from bridge.ids import Jid
from bridge.normalise import rows_of, to_json
from bridge.normalise.history import history_json, history_of
from bridge.sandbox.whatsapp.codec import protobuf
from tests.unit.engine.protobufs import e2e, wire
from tests.unit.engine.protobufs import past as protobufs_of_the_past

OWN = Person(phone_jid=Jid("1@s.whatsapp.net"), lid=Jid("100@lid"))
RECORD = Record(own=OWN, sync_type=0, chunk=1, progress=50, share=1.0, last=True, data=b"")
FEW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
TRANSLATIONS: dict[str, Callable[[Any, Person], SpooledEvent | None]] = {
    "Message": translate.message,
    "UndecryptableMessage": translate.undecryptable,
    "Receipt": translate.receipt,
    "GroupInfoEvent": news.group_changed,
    "JoinedGroup": news.group_joined,
    "CallOffer": news.call_offered,
    "CallOfferNotice": news.call_noticed,
    "CallAccept": news.call_accepted,
    "CallTerminate": news.call_ended,
}

# what decides how something is understood is more often what it should be
LIKELY = {
    "Server": st.sampled_from(
        ["s.whatsapp.net", "lid", "g.us", "newsletter", "broadcast", "hosted", "c.us", ""]
    ),
    "User": st.sampled_from(["1", "2", "100", "status", ""]),
    "ID": st.sampled_from(["A", "", "1@lid", "2@g.us", "3@newsletter", "x" * 300]),
}
NASTY = ["\x00", "a\x00b", "\u202efdp.exe", "\ud7ff\ue000", "x" * 70_000, "NaN", "-1"]
SMALLEST = {
    FieldDescriptor.TYPE_INT32: -(2**31),
    FieldDescriptor.TYPE_SINT32: -(2**31),
    FieldDescriptor.TYPE_SFIXED32: -(2**31),
    FieldDescriptor.TYPE_INT64: -(2**63),
    FieldDescriptor.TYPE_SINT64: -(2**63),
    FieldDescriptor.TYPE_SFIXED64: -(2**63),
}
WIDE = (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)
NARROW = (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values that a field can hold."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return LIKELY.get(field.name, st.text(max_size=20) | st.sampled_from(NASTY))
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=20)
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return st.floats(width=32)
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            return st.sampled_from([value.number for value in field.enum_type.values])
    least = SMALLEST.get(field.type, 0)
    most = -least - 1 if least else 2**64 - 1 if field.type in WIDE else 2**32 - 1
    return st.integers(least, most) | st.integers(0, min(most, 2_000_000_000))


def fill(data: st.DataObject, message: Any, depth: int) -> None:
    """Set some fields, and some of theirs."""
    fields = list(message.DESCRIPTOR.fields)
    wanted = data.draw(st.lists(st.sampled_from(fields), max_size=5, unique=True)) if fields else []
    required = [field for field in fields if field.is_required]
    for field in {each.name: each for each in [*required, *wanted]}.values():
        repeated = field.is_repeated
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if repeated and not field.message_type.GetOptions().map_entry:
                for _ in range(data.draw(st.integers(0, 2)) if depth else 0):
                    fill(data, getattr(message, field.name).add(), depth - 1)
            elif not repeated:
                inner = getattr(message, field.name)
                inner.SetInParent()
                if depth:
                    fill(data, inner, depth - 1)
        elif repeated:
            values = data.draw(st.lists(scalars(field), max_size=3))
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, data.draw(scalars(field)))


def check(built: Any) -> None:
    text = json.dumps(built, allow_nan=False)  # PostgreSQL has no NaN in JSON
    assert "\\u0000" not in text  # and no NUL in text
    text.encode()


def check_rows(event: SpooledEvent | None) -> None:
    for row in rows_of(event) if event is not None else []:
        check(to_json(row))


@pytest.mark.parametrize("name", TRANSLATIONS)
@given(data=st.data())
@settings(FEW, max_examples=20)
def test_whatever_the_library_tells_becomes_rows(name: str, data: st.DataObject) -> None:
    told = getattr(wire, name)()
    fill(data, told, 5)
    check_rows(TRANSLATIONS[name](told, OWN))


def received(content: Any) -> Any:
    address = wire.JID(User="2", Server="lid", Device=0, RawAgent=0, Integrator=0, IsEmpty=False)
    source = wire.MessageSource(Chat=address, Sender=address, IsFromMe=False, IsGroup=False)
    return wire.Message(
        Info=wire.MessageInfo(ID="A", Timestamp=1_700_000_000, MessageSource=source),
        Message=content,
    )


@given(data=st.data())
@settings(FEW, max_examples=80)
def test_whatever_a_message_can_hold_becomes_rows(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(list(e2e.Message.DESCRIPTOR.fields)))
    content = e2e.Message()
    if field.message_type is not None:
        getattr(content, field.name).SetInParent()
        fill(data, getattr(content, field.name), 4)
    else:
        setattr(content, field.name, data.draw(scalars(field)))
    check_rows(translate.message(received(content), OWN))


@given(number=st.integers(1, 2**29 - 1), body=st.binary(max_size=30))
@settings(FEW, max_examples=30)
def test_a_field_that_nobody_knows_becomes_a_row_or_nothing(number: int, body: bytes) -> None:
    if number in e2e.Message.DESCRIPTOR.fields_by_number or 19_000 <= number < 20_000:
        return
    content = e2e.Message.FromString(protobuf.encode((number, body)))
    event = translate.message(received(content), OWN)
    assert event is not None
    (row,) = rows_of(event)
    built = to_json(row)
    assert (built["tipo"], built["payload"]) == ("unsupported", {"raw_type": f"field{number}"})


@given(data=st.data())
@settings(FEW, max_examples=50)
def test_whatever_a_history_can_hold_becomes_a_call(data: st.DataObject) -> None:
    told = protobufs_of_the_past.HistorySync(syncType=0)
    fill(data, told, 3)
    chat = told.conversations.add(ID=data.draw(st.sampled_from(["2@lid", "2@g.us", "x"])))
    for _ in range(data.draw(st.integers(0, 2))):
        info = chat.messages.add().message
        fill(data, info, 5)
        info.key.ID = info.key.ID or "A"
    part = past.part_of(RECORD, b"", lambda _: told)
    check(history_json(history_of([part], progress=50)))


def test_a_kind_that_nobody_knows_is_in_the_past_too() -> None:
    told = protobufs_of_the_past.HistorySync(syncType=0)
    info = told.conversations.add(ID="2@lid").messages.add().message
    info.key.ID = "A"
    info.message.MergeFromString(protobuf.encode((4095, b"x")))
    part = past.part_of(RECORD, b"", lambda _: told)
    ((message,),) = (
        chat["messages"] for chat in history_json(history_of([part], progress=1))["chats"]
    )
    assert (message["tipo"], message["payload"]) == ("unsupported", {"raw_type": "field4095"})

"""Orders become the protobufs that WhatsApp's apps understand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Text,
    Uploaded,
)
from tests.unit.engine.protobufs import compose, e2e

ANA = Jid("5511987654321@s.whatsapp.net")
GROUP = Jid("120363000000000001@g.us")
THEIRS = WhatsAppMessageId("3EB0")
QUOTE = Quote(id=THEIRS, sender=ANA, text="Tem?")


def composed(order: Outgoing, to: Jid = ANA) -> Any:
    """As it comes out of the wire."""
    return e2e.Message.FromString(compose.message_of(order, to).SerializeToString())


def test_a_plain_text_is_a_plain_text() -> None:
    assert composed(Text(text="Oi")) == e2e.Message(conversation="Oi")


def test_a_text_carries_whom_it_mentions_what_it_answers_and_what_a_link_shows() -> None:
    preview = LinkPreview(url="https://a.example", title="A", description="B", thumbnail=b"\xff")
    order = Text(text="@5511987654321", mentions=[ANA], quote=QUOTE, preview=preview)
    text = composed(order).extendedTextMessage
    context = text.contextInfo
    assert (text.text, list(context.mentionedJID)) == ("@5511987654321", [ANA])
    assert (context.stanzaID, context.participant) == (THEIRS, ANA)
    assert context.quotedMessage.conversation == "Tem?"
    assert (text.matchedText, text.title, text.description) == ("https://a.example", "A", "B")
    assert text.JPEGThumbnail == b"\xff"


@pytest.mark.parametrize("selectable", [0, 1, 2])
def test_a_poll_has_a_secret_of_its_own(selectable: int) -> None:
    order = Poll(question="?", options=["a", "b"], selectable=selectable, quote=QUOTE)
    first, second = composed(order), composed(order)
    poll = first.pollCreationMessageV3 if selectable == 1 else first.pollCreationMessage
    assert (poll.name, poll.selectableOptionsCount) == ("?", selectable)
    assert [option.optionName for option in poll.options] == ["a", "b"]
    assert poll.contextInfo.stanzaID == THEIRS
    secrets = [each.messageContextInfo.messageSecret for each in (first, second)]
    assert [len(secret) for secret in secrets] == [32, 32]
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize("to", [ANA, GROUP])
@pytest.mark.parametrize("from_me", [False, True])
def test_a_message_is_named_with_its_author_only_where_whatsapp_needs_it(
    to: Jid, from_me: bool
) -> None:
    orders: list[Outgoing] = [
        Reaction(target=THEIRS, target_sender=ANA, target_from_me=from_me, emoji="👍"),
        Revoke(target=THEIRS, target_sender=ANA, target_from_me=from_me),
    ]
    for order in orders:
        message = composed(order, to)
        key = message.reactionMessage.key if message.HasField("reactionMessage") else None
        key = key or message.protocolMessage.key
        assert (key.ID, key.remoteJID, key.fromMe) == (THEIRS, to, from_me)
        assert key.participant == (ANA if to == GROUP and not from_me else "")


def test_a_reaction_that_is_taken_back_says_so() -> None:
    order = Reaction(target=THEIRS, target_sender=ANA, target_from_me=False, emoji="")
    reaction = composed(order).reactionMessage
    assert reaction.HasField("text")
    assert reaction.text == ""
    assert reaction.senderTimestampMS > 0


def test_an_edit_wraps_the_new_text() -> None:
    protocol = composed(Edit(target=THEIRS, text="novo")).editedMessage.message.protocolMessage
    assert (protocol.key.ID, protocol.key.fromMe) == (THEIRS, True)
    assert protocol.editedMessage == e2e.Message(conversation="novo")
    assert protocol.type == protocol.MESSAGE_EDIT


def test_a_place() -> None:
    place = composed(Location(latitude=-23.5, longitude=-46.6, name="MASP")).locationMessage
    assert (place.degreesLatitude, place.degreesLongitude, place.name) == (-23.5, -46.6, "MASP")


@given(name=st.text(max_size=40))
def test_a_name_cannot_add_a_line_to_a_contact_card(name: str) -> None:
    lines = compose.vcard_of(name, ["5511987654321"]).split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        "BEGIN",
        "VERSION",
        "N",
        "FN",
        "TEL;type=CELL;waid=5511987654321",
        "END",
    ]


def test_a_contact() -> None:
    ana = Card(name="Ana", numbers=["551198765432"])
    contact = composed(Contact(cards=[ana], quote=QUOTE)).contactMessage
    assert contact.displayName == "Ana"
    assert contact.contextInfo.stanzaID == THEIRS
    assert "waid=551198765432:+551198765432" in contact.vcard
    both = composed(Contact(cards=[ana, Card(name="Bia", numbers=["1"])], quote=QUOTE))
    assert [each.displayName for each in both.contactsArrayMessage.contacts] == ["Ana", "Bia"]
    assert both.contactsArrayMessage.contextInfo.stanzaID == THEIRS


def test_a_place_that_moves() -> None:
    order = Location(latitude=1, longitude=2, live=True, caption="a caminho")
    place = composed(order).liveLocationMessage
    assert (place.degreesLatitude, place.caption, place.sequenceNumber) == (1, "a caminho", 1)


FILE = Uploaded(
    url="u", direct_path="/p", media_key=b"k", sha256=b"s", encrypted_sha256=b"e", size_bytes=3
)


def file(kind: str, **more: Any) -> Media:
    return Media(kind=kind, file=FILE, mime_type="a/b", **more)  # type: ignore[arg-type]


SHOWN: list[Any] = [
    *(Text, {"text": "Oi"}),
    *(Location, {"latitude": 1, "longitude": 2}),
    *(Location, {"latitude": 1, "longitude": 2, "live": True}),
    *(Contact, {"cards": [Card(name="Ana", numbers=["1"])]}),
    *(Contact, {"cards": [Card(name="Ana", numbers=["1"])] * 2}),
    *(Poll, {"question": "?", "options": ["a", "b"]}),
    *(Poll, {"question": "?", "options": ["a", "b"], "selectable": 0}),
    *(Media, {"kind": "image", "file": FILE, "mime_type": "a/b"}),
    *(Media, {"kind": "document", "file": FILE, "mime_type": "a/b", "caption": "x"}),
    *(Media, {"kind": "sticker", "file": FILE, "mime_type": "a/b"}),
    *(Media, {"kind": "audio", "file": FILE, "mime_type": "a/b", "view_once": True}),
]


@pytest.mark.parametrize(("shape", "fields"), list(zip(SHOWN[::2], SHOWN[1::2], strict=True)))
def test_every_kind_says_that_it_was_forwarded_and_when_it_disappears(
    shape: Any, fields: dict[str, Any]
) -> None:
    message = composed(shape(**fields, forwarded=True, disappears_after_s=86400, mentions=[ANA]))
    while not hasattr(message, "contextInfo"):
        (_, inner), *_ = ((f, v) for f, v in message.ListFields() if f.name != "messageContextInfo")
        message = inner.message if inner.DESCRIPTOR.name == "FutureProofMessage" else inner
    context = message.contextInfo
    assert (context.isForwarded, context.forwardingScore) == (True, 1)
    assert (context.expiration, list(context.mentionedJID)) == (86400, [ANA])


def test_an_edited_caption_comes_with_its_file() -> None:
    media = file("image", caption="novo", mentions=[ANA])
    order = Edit(target=THEIRS, text="novo", mentions=[ANA], media=media)
    protocol = composed(order).editedMessage.message.protocolMessage
    image = protocol.editedMessage.imageMessage
    assert (protocol.key.ID, image.caption, image.mediaKey) == (THEIRS, "novo", b"k")
    assert list(image.contextInfo.mentionedJID) == [ANA]


def test_a_sticker_that_moves_says_so() -> None:
    assert composed(file("sticker", animated=True)).stickerMessage.isAnimated
    assert not composed(file("sticker")).stickerMessage.isAnimated

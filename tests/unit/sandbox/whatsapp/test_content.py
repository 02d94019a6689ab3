"""What messages say, and media."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID
from bridge.sandbox.whatsapp.crypto.ciphers import CipherError
from bridge.sandbox.whatsapp.crypto.media_cipher import decrypt_media, encrypt_media
from bridge.sandbox.whatsapp.phone import content
from bridge.sandbox.whatsapp.phone.content import Quote
from bridge.sandbox.whatsapp.server.media_host import MediaHost

CHAT, SENDER = JID("1", "lid"), JID("2", "lid", 3)
QUOTE = Quote("ID", SENDER, protobuf.encode((1, "quoted")))
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=100)


@given(texts)
def test_texts_are_read(text: str) -> None:
    plain = content.read_content(content.text_content(text, None).raw)
    quoting = content.read_content(content.text_content(text, QUOTE).raw)

    assert (plain.type, plain.text, plain.quoted_id) == ("text", text, None)
    assert (quoting.type, quoting.text, quoting.quoted_id) == ("text", text, "ID")


def test_reactions_edits_and_revokes_name_their_target() -> None:
    reaction = content.reaction_content(CHAT, QUOTE, target_from_me=False, emoji="👍")
    edit = content.edit_content(CHAT, QUOTE, "better")
    revoke = content.revoke_content(CHAT, QUOTE)

    said = [content.read_content(each.raw) for each in (reaction, edit, revoke)]

    assert [(each.type, each.text, each.target_id) for each in said] == [
        ("reaction", "👍", "ID"),
        ("edit", "better", "ID"),
        ("revoke", None, "ID"),
    ]
    assert (edit.edit, revoke.edit) == ("1", "7")


@pytest.mark.parametrize("kind", ["image", "video", "document"])
def test_an_edited_caption_comes_with_its_file(kind: str) -> None:
    uploaded = MediaHost(None).add(b"x", kind)
    message = content.media_content(
        kind, uploaded, mime_type="a/b", caption="old", file_name=None, voice_note=False, quote=None
    )
    edit = content.edit_content(CHAT, Quote("ID", SENDER, message.raw), "new")
    said = content.read_content(edit.raw)
    assert (said.type, said.text, said.target_id) == ("edit", "new", "ID")
    assert said.media is not None
    assert (said.media.kind, said.media.sha256) == (kind, uploaded.file_sha256.hex())


@pytest.mark.parametrize("on", [True, False])
def test_a_pin_names_its_message(on: bool) -> None:
    pin = content.pin_content(CHAT, QUOTE, from_me=False, on=on)
    said = content.read_content(pin.raw)
    assert (said.type, said.target_id, pin.edit) == ("pin" if on else "unpin", "ID", "2")


@pytest.mark.parametrize("kind", content.MEDIA_TYPES)
def test_media_is_described_and_kept_encrypted(kind: str) -> None:
    data, host = os.urandom(1000), MediaHost(None)
    uploaded = host.add(data, kind)
    message = content.media_content(
        kind, uploaded, mime_type="a/b", caption=None, file_name="f", voice_note=False, quote=QUOTE
    )

    said = content.read_content(message.raw)

    assert said.media is not None
    assert (said.type, said.media.mime_type, said.media.size_bytes) == (kind, "a/b", 1000)
    assert said.quoted_id == "ID"
    blob = host.get(said.media.direct_path)
    assert blob is not None
    assert data not in blob
    assert decrypt_media(blob, kind, uploaded.media_key) == data


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_damaged_media_is_refused(data: bytes, position: int) -> None:
    key = os.urandom(32)
    blob = bytearray(encrypt_media(data, "image", key))
    blob[position % len(blob)] ^= 1

    with pytest.raises(CipherError):
        decrypt_media(bytes(blob), "image", key)


@given(st.binary(max_size=200))
def test_any_message_is_read_or_refused(raw: bytes) -> None:
    try:
        said = content.read_content(raw)
    except protobuf.ProtobufError:
        return
    assert said.type

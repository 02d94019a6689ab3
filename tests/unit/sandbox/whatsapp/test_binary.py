"""The binary XML codec: every stanza survives, and nonsense is refused."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.codec.binary import BinaryCodec, BinaryError
from bridge.sandbox.whatsapp.codec.nodes import JID, Node, StanzaError
from bridge.sandbox.whatsapp.codec.tokens import Tokens, read_tokens

TOKENS = read_tokens()
CODEC = BinaryCodec(TOKENS)

characters = st.characters(codec="utf-8")
words = st.one_of(
    st.integers(1, 235).map(lambda index: TOKENS.single[index] or "x"),
    st.integers(0, 1023).map(lambda index: TOKENS.double[index // 256][index % 256] or "x"),
    st.text("0123456789-.", min_size=1, max_size=130),
    st.text("0123456789ABCDEF", min_size=1, max_size=130),
    st.text(characters, min_size=1, max_size=300),
)
users = st.text("0123456789", min_size=1, max_size=20)
jids = st.one_of(
    st.builds(JID, users, st.sampled_from(["s.whatsapp.net", "lid"]), st.integers(0, 255)),
    st.builds(JID, users, st.just("g.us")),
    st.builds(JID, st.just(""), st.sampled_from(["s.whatsapp.net", "g.us"])),
)
attributes = st.dictionaries(words, st.one_of(words, jids), max_size=5)
contents = st.one_of(st.none(), st.binary(max_size=300))
nodes = st.recursive(
    st.builds(Node, words, attributes, contents),
    lambda children: st.builds(Node, words, attributes, st.lists(children, max_size=4)),
    max_leaves=8,
)


@given(nodes)
def test_stanzas_come_back_as_they_were(node: Node) -> None:
    assert CODEC.decode(CODEC.encode(node)) == node


@pytest.mark.parametrize("size", [255, 256, (1 << 20) - 1, 1 << 20])
def test_contents_of_every_length_come_back(size: int) -> None:
    node = Node("message", {}, bytes(size))

    assert CODEC.decode(CODEC.encode(node)) == node


@given(nodes)
def test_compressed_stanzas_are_read(node: Node) -> None:
    plain = CODEC.encode(node)

    assert CODEC.decode(b"\x02" + zlib.compress(plain[1:])) == node


@given(st.binary(max_size=200))
def test_nonsense_is_decoded_or_refused(data: bytes) -> None:
    try:
        node = CODEC.decode(data)
    except BinaryError:
        return
    assert isinstance(node, Node)


@given(nodes, st.integers(1, 30))
def test_a_stanza_that_is_cut_short_is_refused(node: Node, cut: int) -> None:
    plain = CODEC.encode(node)

    with pytest.raises(BinaryError):
        CODEC.decode(plain[: -min(cut, len(plain) - 1)])


def test_bytes_after_the_stanza_are_refused() -> None:
    with pytest.raises(BinaryError):
        CODEC.decode(CODEC.encode(Node("iq")) + b"\x00")


def test_a_stanza_that_inflates_without_end_is_refused() -> None:
    bomb = zlib.compress(bytes(1 << 27))

    with pytest.raises(BinaryError):
        CODEC.decode(b"\x02" + bomb)


def test_a_stanza_that_nests_without_end_is_refused() -> None:
    # list of 2, tag "message"-like token 19, content: a list of one node, again and again
    with pytest.raises(BinaryError):
        CODEC.decode(b"\x00" + b"\xf8\x02\x13\xf8\x01" * 10_000 + b"\xf8\x01\x13")


def test_the_dictionary_has_the_size_of_version_three(tokens: Tokens) -> None:
    assert len(tokens.single) == 236
    assert [len(table) for table in tokens.double] == [256] * 4
    assert {"message", "receipt", "s.whatsapp.net"} <= set(tokens.single)


@pytest.mark.parametrize(
    ("text", "jid"),
    [
        ("5511@s.whatsapp.net", JID("5511")),
        ("5511:3@s.whatsapp.net", JID("5511", device=3)),
        ("5511.0:3@lid", JID("5511", "lid", 3)),
        ("s.whatsapp.net", JID("")),
    ],
)
def test_addresses_are_read(text: str, jid: JID) -> None:
    assert JID.parse(text) == jid


def test_an_address_with_a_bad_device_is_refused() -> None:
    with pytest.raises(StanzaError):
        JID.parse("5511:x@lid")

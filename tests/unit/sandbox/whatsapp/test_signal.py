"""Signal sessions and sender keys, in any order of arrival and over restarts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.crypto.ratchet import DuplicateMessage, SignalError
from bridge.sandbox.whatsapp.crypto.sender_keys import SenderKey, SenderKeyRing
from bridge.sandbox.whatsapp.crypto.signal_store import Bundle, SignalStore, pad, unpad

A, B = "1:0", "2:0"


def _bundle(store: SignalStore, *, one_time: bool = True) -> Bundle:
    id_, public = next(iter(store.make_prekeys(1).items())) if one_time else (None, None)
    return Bundle(
        store.registration_id,
        store.identity.public,
        store.signed_id,
        store.signed_prekey.public,
        store.signed_signature,
        id_,
        public,
    )


def _pair(*, one_time: bool = True) -> tuple[SignalStore, SignalStore]:
    a, b = SignalStore.create(), SignalStore.create()
    a.open_session(B, _bundle(b, one_time=one_time))
    return a, b


def _restarted(store: SignalStore) -> SignalStore:
    return msgspec.json.decode(msgspec.json.encode(store), type=SignalStore)


@given(st.booleans(), st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), max_size=20))
@settings(max_examples=50)
def test_a_conversation_decrypts(one_time: bool, turns: list[tuple[bool, bytes]]) -> None:
    a, b = _pair(one_time=one_time)
    assert b.decrypt(A, *a.encrypt(B, b"first")) == b"first"

    for from_a, text in turns:
        if from_a:
            assert b.decrypt(A, *a.encrypt(B, text)) == text
        else:
            assert a.decrypt(B, *b.encrypt(A, text)) == text


@given(st.permutations(range(8)))
@settings(max_examples=50)
def test_messages_decrypt_once_in_any_order(order: list[int]) -> None:
    a, b = _pair()
    sent = [a.encrypt(B, bytes([number])) for number in range(8)]

    for number in order:
        assert b.decrypt(A, *sent[number]) == bytes([number])
    for message in sent:
        with pytest.raises(DuplicateMessage):
            b.decrypt(A, *message)


@given(st.lists(st.sampled_from(["a", "b", "restart a", "restart b"]), max_size=20))
@settings(max_examples=50)
def test_restarts_lose_nothing(steps: list[str]) -> None:
    a, b = _pair()
    assert b.decrypt(A, *a.encrypt(B, b"first")) == b"first"

    for step in steps:
        match step:
            case "a":
                assert b.decrypt(A, *a.encrypt(B, b"to b")) == b"to b"
            case "b":
                assert a.decrypt(B, *b.encrypt(A, b"to a")) == b"to a"
            case "restart a":
                a = _restarted(a)
            case _:
                b = _restarted(b)


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=100)
def test_a_changed_message_is_refused_and_changes_nothing(position: int, change: int) -> None:
    a, b = _pair()
    b.decrypt(A, *a.encrypt(B, b"first"))
    a.decrypt(B, *b.encrypt(A, b"answer"))
    kind, ciphertext = a.encrypt(B, b"second")
    damaged = bytearray(ciphertext)
    damaged[position % len(damaged)] ^= change
    before = msgspec.json.encode(b)

    with pytest.raises(SignalError):
        b.decrypt(A, kind, bytes(damaged))

    assert msgspec.json.encode(b) == before
    assert b.decrypt(A, kind, ciphertext) == b"second"


def test_a_one_time_prekey_opens_one_session_only() -> None:
    b = SignalStore.create()
    bundle = _bundle(b)
    first, second = SignalStore.create(), SignalStore.create()
    first.open_session(B, bundle)
    second.open_session(B, bundle)

    assert b.decrypt("1:0", *first.encrypt(B, b"one")) == b"one"
    with pytest.raises(SignalError, match="used before"):
        b.decrypt("3:0", *second.encrypt(B, b"two"))


def test_a_bundle_with_a_wrong_signature_is_refused() -> None:
    a, b = SignalStore.create(), SignalStore.create()
    bundle = _bundle(b)
    forged = Bundle(
        bundle.registration_id,
        SignalStore.create().identity.public,
        bundle.signed_id,
        bundle.signed_public,
        bundle.signature,
    )

    with pytest.raises(SignalError, match="not signed"):
        a.open_session(B, forged)


def test_a_gap_that_is_too_long_is_refused() -> None:
    a, b = _pair()
    b.decrypt(A, *a.encrypt(B, b"first"))
    a.sessions[B][0].sender.index += 5000

    with pytest.raises(SignalError, match="too many"):
        b.decrypt(A, *a.encrypt(B, b"far ahead"))


@given(st.permutations(range(6)))
@settings(max_examples=30)
def test_group_messages_decrypt_once_in_any_order(order: list[int]) -> None:
    key, ring = SenderKey.generate(), SenderKeyRing()
    ring.learn(key.distribution())
    sent = [key.encrypt(bytes([number])) for number in range(6)]

    for number in order:
        assert ring.decrypt(sent[number]) == bytes([number])
    for message in sent:
        with pytest.raises(DuplicateMessage):
            ring.decrypt(message)


def test_who_joins_late_reads_from_then_on() -> None:
    key, ring = SenderKey.generate(), SenderKeyRing()
    early = key.encrypt(b"before")
    ring.learn(key.distribution())

    assert ring.decrypt(key.encrypt(b"after")) == b"after"
    with pytest.raises(SignalError):
        ring.decrypt(early)


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=50)
def test_a_changed_group_message_is_refused(position: int, change: int) -> None:
    key, ring = SenderKey.generate(), SenderKeyRing()
    ring.learn(key.distribution())
    message = key.encrypt(b"hello")
    damaged = bytearray(message)
    damaged[position % len(damaged)] ^= change

    try:
        assert ring.decrypt(bytes(damaged)) == b"hello"  # the version byte is not read
    except SignalError:
        assert ring.decrypt(message) == b"hello"


def test_a_sender_key_of_somebody_else_does_not_encrypt() -> None:
    with pytest.raises(SignalError):
        SenderKey.from_distribution(SenderKey.generate().distribution()).encrypt(b"forged")


@given(st.binary(max_size=100))
def test_padding_is_undone(plain: bytes) -> None:
    assert unpad(pad(plain)) == plain


@pytest.mark.parametrize("padded", [b"", b"\x00", b"\x05\x05"])
def test_wrong_padding_is_refused(padded: bytes) -> None:
    with pytest.raises(SignalError):
        unpad(padded)

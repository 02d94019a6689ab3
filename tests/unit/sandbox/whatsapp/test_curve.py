"""Keys and signatures."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.crypto.ciphers import hkdf
from bridge.sandbox.whatsapp.crypto.curve import KeyPair, raw_public, typed_public, verify

pairs = st.binary(min_size=32, max_size=32).map(KeyPair.from_private)


@given(pairs, st.binary(max_size=200))
def test_a_signature_is_right_for_its_message_and_key_only(pair: KeyPair, message: bytes) -> None:
    signature = pair.sign(message)

    assert verify(pair.public, message, signature)
    assert verify(pair.serialized, message, signature)
    assert not verify(pair.public, message + b"x", signature)
    assert not verify(KeyPair.generate().public, message, signature)


@given(pairs, st.integers(0, 511))
def test_one_flipped_bit_breaks_a_signature(pair: KeyPair, bit: int) -> None:
    signature = bytearray(pair.sign(b"message"))
    signature[bit // 8] ^= 1 << bit % 8

    assert not verify(pair.public, b"message", bytes(signature))


@given(pairs, pairs)
def test_both_sides_agree(ours: KeyPair, theirs: KeyPair) -> None:
    assert ours.agree(theirs.public) == theirs.agree(ours.serialized)


@given(st.binary(min_size=32, max_size=32))
def test_public_keys_are_x25519s(private: bytes) -> None:
    pair = KeyPair.from_private(private)
    key = X25519PrivateKey.from_private_bytes(private)

    assert pair.public == key.public_key().public_bytes_raw()
    assert raw_public(typed_public(pair.public)) == pair.public


def test_nonsense_is_no_signature() -> None:
    pair = KeyPair.generate()

    assert not verify(b"", b"", b"")
    assert not verify(pair.public, b"", bytes(64))
    assert not verify(pair.public, b"", b"\xff" * 64)


def test_hkdf_is_that_of_the_rfc() -> None:
    # RFC 5869, test cases 1 and 3
    okm = hkdf(b"\x0b" * 22, 42, bytes(range(0xF0, 0xFA)), bytes(range(13)))
    assert okm.hex().startswith("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")
    assert hkdf(b"\x0b" * 22, 42).hex().startswith("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1")

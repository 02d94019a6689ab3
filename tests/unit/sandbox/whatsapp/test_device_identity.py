"""How a phone vouches for a companion."""

from __future__ import annotations

import base64
import hmac
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.crypto.curve import KeyPair, verify
from bridge.sandbox.whatsapp.crypto.device_identity import (
    LinkingQr,
    QrUnreadable,
    companion_signature_holds,
    vouch_for_companion,
)

keys = st.binary(min_size=32, max_size=32)


def test_the_phones_signature_and_mac_are_right() -> None:
    phone, companion, secret = KeyPair.generate(), KeyPair.generate(), os.urandom(32)

    details, vouched = vouch_for_companion(phone, companion.public, secret, 3)

    outer = protobuf.decode(vouched)
    assert outer.bytes_(2) == hmac.digest(secret, outer.bytes_(1), "sha256")
    signed = outer.sub(1)
    assert signed.bytes_(1) == details
    assert protobuf.decode(details).integer(3) == 3
    assert verify(phone.public, b"\x06\x00" + details + companion.public, signed.bytes_(3))


def test_the_companions_signature_is_checked_against_what_the_phone_signed() -> None:
    phone, companion = KeyPair.generate(), KeyPair.generate()
    details, _ = vouch_for_companion(phone, companion.public, os.urandom(32), 1)
    said = b"\x06\x01" + details + companion.public + phone.public
    answer = protobuf.encode((1, details), (4, companion.sign(said)))
    right = {"details": details, "identity": companion.public, "account": phone.public}

    assert companion_signature_holds(answer, **right)
    assert not companion_signature_holds(answer, **right | {"details": details + b"x"})
    assert not companion_signature_holds(answer, **right | {"identity": phone.public})
    assert not companion_signature_holds(answer, **right | {"account": companion.public})
    assert not companion_signature_holds(b"\xff", **right)


@given(keys, keys, keys, st.sampled_from(["", "https://wa.me/settings/linked_devices#"]))
def test_qr_texts_are_read(noise: bytes, identity: bytes, secret: bytes, prefix: str) -> None:
    parts = [base64.b64encode(key).decode() for key in (noise, identity, secret)]

    qr = LinkingQr.parse(prefix + ",".join(["2@ref", *parts, "1"]))

    assert qr == LinkingQr("2@ref", noise, identity, secret)


@given(st.text(max_size=100))
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(QrUnreadable):
        LinkingQr.parse(text)

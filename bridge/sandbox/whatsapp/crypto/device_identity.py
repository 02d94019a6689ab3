"""ADV: how a phone vouches for a companion, and the companion for itself."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from dataclasses import dataclass

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import ProtobufError
from bridge.sandbox.whatsapp.crypto.curve import KeyPair, verify

_QR_PREFIX = "https://wa.me/settings/linked_devices#"
_ACCOUNT_PREFIX, _DEVICE_PREFIX = b"\x06\x00", b"\x06\x01"


class QrUnreadable(ValueError):
    """The text is not one that a WhatsApp client shows."""


@dataclass(frozen=True, slots=True)
class LinkingQr:
    """What a QR code says: which waiting connection, and the keys of the client behind it."""

    ref: str
    noise: bytes
    identity: bytes
    adv_secret: bytes

    @classmethod
    def parse(cls, text: str) -> LinkingQr:
        """Read ``[prefix]ref,noise,identity,secret[,client]``; keys in base64.

        :raises QrUnreadable: if it is anything else.
        """
        parts = text.strip().removeprefix(_QR_PREFIX).split(",")
        if len(parts) < 4:
            raise QrUnreadable("This is not the text of a WhatsApp linking code.")
        try:
            noise, identity, secret = (base64.b64decode(part, validate=True) for part in parts[1:4])
        except binascii.Error as error:
            raise QrUnreadable("The keys in this linking code are not base64.") from error
        if {len(noise), len(identity), len(secret)} != {32}:
            raise QrUnreadable("The keys in this linking code do not have 32 bytes each.")
        return cls(parts[0], noise, identity, secret)


def vouch_for_companion(
    account: KeyPair, identity: bytes, adv_secret: bytes, key_index: int
) -> tuple[bytes, bytes]:
    """Sign a companion's identity key as the phone does.

    Returns:
        The ADVDeviceIdentity ("details") and the ADVSignedDeviceIdentityHMAC that goes to the
        companion.
    """
    details = protobuf.encode(
        (1, 1_000_000 + key_index), (2, int(time.time())), (3, key_index), (4, 0), (5, 0)
    )
    signature = account.sign(_ACCOUNT_PREFIX + details + identity)
    signed = protobuf.encode((1, details), (2, account.public), (3, signature))
    mac = hmac.digest(adv_secret, signed, "sha256")
    return details, protobuf.encode((1, signed), (2, mac), (3, 0))


def companion_signature_holds(
    signed_identity: bytes, *, details: bytes, identity: bytes, account: bytes
) -> bool:
    """Check the ADVSignedDeviceIdentity that a companion returns when it is paired.

    The signature must be over exactly the details that the phone signed.
    """
    try:
        message = protobuf.decode(signed_identity)
        if message.bytes_(1) != details:
            return False
        signed = _DEVICE_PREFIX + details + identity + account
        return verify(identity, signed, message.bytes_(4))
    except ProtobufError:
        return False

"""How a file is encrypted before it goes to the media host: AES-CBC and a truncated HMAC."""

from __future__ import annotations

import hmac

from bridge.sandbox.whatsapp.crypto.ciphers import (
    CipherError,
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    hkdf,
    hmac_sha256,
)

KEY_BYTES = 32
_MAC_BYTES = 10
_INFO = {
    "image": b"WhatsApp Image Keys",
    "sticker": b"WhatsApp Image Keys",
    "video": b"WhatsApp Video Keys",
    "audio": b"WhatsApp Audio Keys",
    "document": b"WhatsApp Document Keys",
    "history": b"WhatsApp History Keys",
    "app_state": b"WhatsApp App State Keys",
}


def encrypt_media(plaintext: bytes, kind: str, media_key: bytes) -> bytes:
    """The blob to be uploaded; `kind` is one of image, sticker, video, audio, document, …."""
    iv, key, mac_key = _keys(kind, media_key)
    ciphertext = aes_cbc_encrypt(key, iv, plaintext)
    return ciphertext + hmac_sha256(mac_key, iv, ciphertext)[:_MAC_BYTES]


def decrypt_media(blob: bytes, kind: str, media_key: bytes) -> bytes:
    """What was uploaded.

    :raises CipherError: if the MAC is wrong.
    """
    iv, key, mac_key = _keys(kind, media_key)
    ciphertext, mac = blob[:-_MAC_BYTES], blob[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, hmac_sha256(mac_key, iv, ciphertext)[:_MAC_BYTES]):
        raise CipherError("media MAC mismatch")
    return aes_cbc_decrypt(key, iv, ciphertext)


def _keys(kind: str, media_key: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(media_key, 112, _INFO[kind])
    return keys[:16], keys[16:48], keys[48:80]

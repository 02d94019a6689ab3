"""HKDF, AES-CBC and HMAC in the three forms that the protocol uses everywhere."""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK_BITS = 128
_HASH_BYTES = 32


class CipherError(ValueError):
    """A ciphertext does not decrypt under this key."""


def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 of the concatenation."""
    return hmac.digest(key, b"".join(parts), "sha256")


def hkdf(secret: bytes, size: int, info: bytes = b"", salt: bytes = b"") -> bytes:
    """HKDF-SHA256 (RFC 5869). An empty salt means a salt of zeros, as the RFC says.

    Written out because a message needs several and the library's object costs more than the hashes.
    """
    key = hmac.digest(salt or bytes(_HASH_BYTES), secret, "sha256")
    out = block = b""
    for counter in range(1, -(-size // _HASH_BYTES) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        out += block
    return out[:size]


def aes_cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """AES-256-CBC with PKCS#7 padding."""
    padder = padding.PKCS7(_BLOCK_BITS).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    return encryptor.update(padded) + encryptor.finalize()


def aes_cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """AES-256-CBC with PKCS#7 padding.

    :raises CipherError: if the length or the padding is wrong.
    """
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    unpadder = padding.PKCS7(_BLOCK_BITS).unpadder()
    try:
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise CipherError("wrong padding") from error


def aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-256-CTR, which is its own inverse."""
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(data)

"""The phone's side of linking by an 8-letter code."""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.sandbox.whatsapp.crypto.ciphers import aes_ctr, hkdf
from bridge.sandbox.whatsapp.crypto.curve import CurveError, KeyPair

CODE_LETTERS = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
_ROUNDS = 2 << 16


class WrongCode(ValueError):
    """What was typed is not the code that the companion shows."""


def normal_code(typed: str) -> str:
    """The eight letters of a code, however it was typed.

    :raises WrongCode: if it cannot be a code.
    """
    code = typed.replace("-", "").replace(" ", "").upper()
    if len(code) != 8 or any(letter not in CODE_LETTERS for letter in code):
        raise WrongCode("A linking code has eight letters, like ABCD-EFGH.")
    return code


class CodeExchange:
    """One attempt: makes the phone's answer, then opens the companion's keys."""

    def __init__(self, code: str, wrapped_companion_ephemeral: bytes) -> None:
        wrapped = wrapped_companion_ephemeral
        self._companion = _code_cipher(code, wrapped[:32], wrapped[32:48], wrapped[48:80])
        self._ephemeral = KeyPair.generate()
        salt, iv = os.urandom(32), os.urandom(16)
        self.wrapped_ephemeral = salt + iv + _code_cipher(code, salt, iv, self._ephemeral.public)

    def open(self, bundle: bytes, phone: KeyPair) -> tuple[bytes, bytes]:
        """Open the companion's key bundle.

        Returns:
            The companion's identity key and the ADV secret.

        :raises WrongCode: if it was made with another code.
        """
        label = b"link_code_pairing_key_bundle_encryption_key"
        try:
            shared = self._ephemeral.agree(self._companion)
            key = hkdf(shared, 32, label, bundle[:32])
            plain = AESGCM(key).decrypt(bundle[32:44], bundle[44:], None)
            identity, random = plain[:32], plain[64:]
            secret = hkdf(shared + phone.agree(identity) + random, 32, b"adv_secret")
        except (InvalidTag, ValueError, CurveError) as error:
            raise WrongCode("This is not the code that the other device shows.") from error
        return identity, secret


def _code_cipher(code: str, salt: bytes, iv: bytes, data: bytes) -> bytes:
    return aes_ctr(hashlib.pbkdf2_hmac("sha256", code.encode(), salt, _ROUNDS, 32), iv, data)

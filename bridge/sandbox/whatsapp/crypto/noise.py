"""Noise_XX_25519_AESGCM_SHA256, the server's side, with WhatsApp's certificate chain.

The very first bytes of a client are the header ``WA`` 6 3, which is also the prologue.
"""

from __future__ import annotations

import hashlib
import struct
import time
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import Fields, ProtobufError
from bridge.sandbox.whatsapp.crypto.ciphers import hkdf
from bridge.sandbox.whatsapp.crypto.curve import CurveError, KeyPair

PROLOGUE = b"WA\x06\x03"
_PATTERN = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"  # 32 bytes: used as it is, not hashed
_DAY_S = 86400


class NoiseError(ValueError):
    """The other side broke the handshake, or a frame was not encrypted for this connection."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The pinned root key, and a chain of certificates for one static key of the server.

    A client checks: the intermediate is signed by the root and has issuer serial 0; the leaf is
    signed by the intermediate and names its serial; both are valid now; the leaf's key is the
    static key of the handshake.
    """

    root: KeyPair
    static: KeyPair
    chain: bytes

    @classmethod
    def create(cls) -> Authority:
        """New keys, valid from yesterday for ten years."""
        root, intermediate, static = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()
        now = int(time.time())

        def certificate(serial: int, issuer: int, key: bytes, signer: KeyPair) -> bytes:
            valid = ((4, now - _DAY_S), (5, now + 3650 * _DAY_S))
            details = protobuf.encode((1, serial), (2, issuer), (3, key), *valid)
            return protobuf.encode((1, details), (2, signer.sign(details)))

        chain = protobuf.encode(
            (1, certificate(2, 1, static.public, intermediate)),
            (2, certificate(1, 0, intermediate.public, root)),
        )
        return cls(root, static, chain)


class Transport:
    """The two directions after the handshake. Frames must be decrypted in the order they came."""

    def __init__(self, read_key: bytes, write_key: bytes) -> None:
        self._read, self._write = AESGCM(read_key), AESGCM(write_key)
        self._read_count = self._write_count = 0

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Decrypt the next frame.

        :raises NoiseError: if it is not the next frame of this connection.
        """
        try:
            plain = self._read.decrypt(_nonce(self._read_count), ciphertext, None)
        except (InvalidTag, ValueError) as error:
            raise NoiseError("frame does not decrypt") from error
        self._read_count += 1
        return plain

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt the next frame."""
        ciphertext = self._write.encrypt(_nonce(self._write_count), plaintext, None)
        self._write_count += 1
        return ciphertext


class Handshake:
    """Feed `client_hello`, then `client_finish`, which gives the transport."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._hash = self._salt = _PATTERN
        self._aead, self._counter = AESGCM(_PATTERN), 0
        self._ephemeral = KeyPair.generate()
        self._mix_hash(PROLOGUE)

    def client_hello(self, frame: bytes) -> bytes:
        """Answer the client's ephemeral key with ours, our static key and the certificates.

        :raises NoiseError: if the frame is not a hello.
        """
        try:
            theirs = protobuf.decode(frame).sub(2).bytes_(1)
            self._mix_hash(theirs)
            self._mix_hash(self._ephemeral.public)
            self._mix_key(self._ephemeral.agree(theirs))
            static = self._encrypt(self._authority.static.public)
            self._mix_key(self._authority.static.agree(theirs))
        except (ProtobufError, CurveError) as error:
            raise NoiseError("not a client hello") from error
        chain = self._encrypt(self._authority.chain)
        hello = protobuf.encode((1, self._ephemeral.public), (2, static), (3, chain))
        return protobuf.encode((3, hello))

    def client_finish(self, frame: bytes) -> tuple[bytes, Fields, Transport]:
        """Take the client's static key and its payload.

        Returns:
            The static key, the decoded ClientPayload and the transport.

        :raises NoiseError: if anything does not decrypt or is not what it should be.
        """
        try:
            finish = protobuf.decode(frame).sub(4)
            static = self._decrypt(finish.bytes_(1))
            self._mix_key(self._ephemeral.agree(static))
            payload = protobuf.decode(self._decrypt(finish.bytes_(2)))
        except (ProtobufError, CurveError, InvalidTag, ValueError) as error:
            raise NoiseError("not a client finish") from error
        keys = hkdf(b"", 64, salt=self._salt)
        return static, payload, Transport(read_key=keys[:32], write_key=keys[32:])

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, secret: bytes) -> None:
        keys = hkdf(secret, 64, salt=self._salt)
        self._salt, self._aead, self._counter = keys[:32], AESGCM(keys[32:]), 0

    def _encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._aead.encrypt(_nonce(self._counter), plaintext, self._hash)
        self._counter += 1
        self._mix_hash(ciphertext)
        return ciphertext

    def _decrypt(self, ciphertext: bytes) -> bytes:
        plaintext = self._aead.decrypt(_nonce(self._counter), ciphertext, self._hash)
        self._counter += 1
        self._mix_hash(ciphertext)
        return plaintext


def _nonce(counter: int) -> bytes:
    return bytes(8) + struct.pack(">I", counter)

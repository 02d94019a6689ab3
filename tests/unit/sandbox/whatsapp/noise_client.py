"""The client's side of the Noise handshake, written from the specification, for tests."""

from __future__ import annotations

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import Fields
from bridge.sandbox.whatsapp.crypto.ciphers import hkdf
from bridge.sandbox.whatsapp.crypto.curve import KeyPair, verify

PATTERN = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"


class NoiseClient:
    """Initiator of XX. `chain` holds the certificates after `read_hello`."""

    def __init__(self, prologue: bytes = b"WA\x06\x03") -> None:
        self.static, self.ephemeral = KeyPair.generate(), KeyPair.generate()
        self.server_static = b""
        self.chain = Fields({})
        self._hash = self._salt = PATTERN
        self._key, self._counter = PATTERN, 0
        self._mix(prologue)

    def hello(self) -> bytes:
        self._mix(self.ephemeral.public)
        return protobuf.encode((2, protobuf.encode((1, self.ephemeral.public))))

    def read_hello(self, frame: bytes) -> None:
        server = protobuf.decode(frame).sub(3)
        theirs = server.bytes_(1)
        self._mix(theirs)
        self._mix_key(self.ephemeral.agree(theirs))
        self.server_static = self._open(server.bytes_(2))
        self._mix_key(self.ephemeral.agree(self.server_static))
        self.chain = protobuf.decode(self._open(server.bytes_(3)))
        self._theirs = theirs

    def finish(self, payload: bytes) -> bytes:
        static = self._seal(self.static.public)
        self._mix_key(self.static.agree(self._theirs))
        sealed = self._seal(payload)
        return protobuf.encode((4, protobuf.encode((1, static), (2, sealed))))

    def keys(self) -> tuple[bytes, bytes]:
        """Write key and read key."""
        keys = hkdf(b"", 64, salt=self._salt)
        return keys[:32], keys[32:]

    def trusts(self, root: bytes) -> bool:
        """Check the chain as WhatsApp's clients do."""
        leaf, intermediate = self.chain.sub(1), self.chain.sub(2)
        middle, end = intermediate.sub(1), leaf.sub(1)
        return (
            verify(root, intermediate.bytes_(1), intermediate.bytes_(2))
            and verify(middle.bytes_(3), leaf.bytes_(1), leaf.bytes_(2))
            and middle.integer(2) == 0
            and end.integer(2) == middle.integer(1)
            and end.bytes_(3) == self.server_static
        )

    def _mix(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, secret: bytes) -> None:
        keys = hkdf(secret, 64, salt=self._salt)
        self._salt, self._key, self._counter = keys[:32], keys[32:], 0

    def _nonce(self) -> bytes:
        self._counter += 1
        return bytes(8) + struct.pack(">I", self._counter - 1)

    def _seal(self, plain: bytes) -> bytes:
        sealed = AESGCM(self._key).encrypt(self._nonce(), plain, self._hash)
        self._mix(sealed)
        return sealed

    def _open(self, sealed: bytes) -> bytes:
        plain = AESGCM(self._key).decrypt(self._nonce(), sealed, self._hash)
        self._mix(sealed)
        return plain

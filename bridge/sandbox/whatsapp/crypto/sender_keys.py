"""Sender keys: one encryption for a whole group (Signal protocol, version 3).

Wire formats (``V`` is the version byte 0x33)::

    SenderKeyDistribution  V | {1 id, 2 iteration, 3 chain key, 4 signing key}
    SenderKeyMessage       V | {1 id, 2 iteration, 3 ciphertext} | signature[64]
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import ProtobufError
from bridge.sandbox.whatsapp.crypto.ciphers import (
    CipherError,
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    hkdf,
)
from bridge.sandbox.whatsapp.crypto.curve import KeyPair, verify
from bridge.sandbox.whatsapp.crypto.ratchet import VERSION, Chain, SignalError

_SIGNATURE_BYTES = 64
_MAX_STATES = 5


@dataclass(slots=True)
class SenderKey:
    """One sender's key for one group: our own (with the private signing key) or another's."""

    id: int
    chain: Chain
    signing_public: bytes
    signing: KeyPair | None = None

    @classmethod
    def generate(cls) -> SenderKey:
        """A new key of our own."""
        signing = KeyPair.generate()
        chain = Chain(os.urandom(32))
        return cls(1 + secrets.randbelow((1 << 31) - 1), chain, signing.serialized, signing)

    @classmethod
    def from_distribution(cls, distribution: bytes) -> SenderKey:
        """Read what another sender distributed.

        :raises SignalError: if it is damaged.
        """
        try:
            fields = protobuf.decode(distribution[1:])
            chain = Chain(fields.bytes_(3), fields.integer(2))
            return cls(fields.integer(1), chain, fields.bytes_(4))
        except ProtobufError as error:
            raise SignalError("damaged sender key") from error

    def distribution(self) -> bytes:
        """What another needs to read our messages from the next one on."""
        return VERSION + protobuf.encode(
            (1, self.id), (2, self.chain.index), (3, self.chain.key), (4, self.signing_public)
        )

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt and sign the next message to the group.

        :raises SignalError: if this is another's key.
        """
        if self.signing is None:
            raise SignalError("this sender key is somebody else's")
        iteration = self.chain.index
        iv, key = _message_keys(self.chain.next_seed())
        body = VERSION + protobuf.encode(
            (1, self.id), (2, iteration), (3, aes_cbc_encrypt(key, iv, plaintext))
        )
        return body + self.signing.sign(body)


@dataclass(slots=True)
class SenderKeyRing:
    """The keys of one other sender for one group, newest first."""

    keys: list[SenderKey] = field(default_factory=list)

    def learn(self, distribution: bytes) -> None:
        """Take a distributed key; one that is known already at or before that point stays."""
        new = SenderKey.from_distribution(distribution)
        for known in self.keys:
            if known.id == new.id and known.chain.index <= new.chain.index:
                return
        self.keys.insert(0, new)
        del self.keys[_MAX_STATES:]

    def decrypt(self, message: bytes) -> bytes:
        """Decrypt a message; a failure changes nothing.

        :raises DuplicateMessage: if it is a repetition.
        :raises SignalError: if no key fits, or it is damaged.
        """
        body, signature = message[:-_SIGNATURE_BYTES], message[-_SIGNATURE_BYTES:]
        try:
            fields = protobuf.decode(body[1:])
            wanted, iteration, ciphertext = fields.integer(1), fields.integer(2), fields.bytes_(3)
        except ProtobufError as error:
            raise SignalError("damaged group message") from error
        for key in self.keys:
            if key.id != wanted:
                continue
            if not verify(key.signing_public, body, signature):
                raise SignalError("wrong signature")
            chain = key.chain.copy()
            iv, message_key = _message_keys(chain.seed_for(iteration))
            try:
                plaintext = aes_cbc_decrypt(message_key, iv, ciphertext)
            except CipherError as error:
                raise SignalError("damaged group message") from error
            key.chain = chain
            return plaintext
        raise SignalError("no sender key")


def _message_keys(seed: bytes) -> tuple[bytes, bytes]:
    keys = hkdf(seed, 48, b"WhisperGroup")
    return keys[:16], keys[16:]

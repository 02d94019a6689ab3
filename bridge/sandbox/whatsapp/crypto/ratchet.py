"""The Double Ratchet: one session between two devices (Signal protocol, version 3).

Wire formats (``V`` is the version byte 0x33; public keys have 33 bytes)::

    SignalMessage        V | {1 ratchet, 2 counter, 3 previous counter, 4 ciphertext} | mac[8]
    PreKeySignalMessage  V | {5 registration, 1 prekey id, 6 signed prekey id, 2 base key,
                              3 identity, 4 SignalMessage}

Everything here is plain data, so that a store can be written to disk and read back.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import ProtobufError
from bridge.sandbox.whatsapp.crypto.ciphers import (
    CipherError,
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    hkdf,
    hmac_sha256,
)
from bridge.sandbox.whatsapp.crypto.curve import CurveError, KeyPair

VERSION = b"\x33"
_MAC_BYTES = 8
_MAX_SKIPPED = 2000
_MAX_RECEIVERS = 5


class SignalError(Exception):
    """A message does not decrypt, or a bundle must not be trusted."""


class DuplicateMessage(SignalError):
    """The key of this message was used before: it is a repetition."""


@dataclass(slots=True)
class Chain:
    """A symmetric ratchet. ``skipped`` keeps the seeds of messages that have not come yet."""

    key: bytes
    index: int = 0
    skipped: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Chain:
        """A chain that can be tried without touching this one."""
        return Chain(self.key, self.index, dict(self.skipped))

    def next_seed(self) -> bytes:
        """The seed of message number `index`; steps on."""
        seed = hmac_sha256(self.key, b"\x01")
        self.key = hmac_sha256(self.key, b"\x02")
        self.index += 1
        return seed

    def seed_for(self, counter: int) -> bytes:
        """The seed of any message, once.

        :raises DuplicateMessage: if it was taken before.
        :raises SignalError: if it is too far ahead.
        """
        if counter < self.index:
            seed = self.skipped.pop(counter, None)
            if seed is None:
                raise DuplicateMessage(f"counter {counter} was used before")
            return seed
        if counter - self.index > _MAX_SKIPPED:
            raise SignalError("too many messages are missing")
        while self.index < counter:
            number = self.index
            self.skipped[number] = self.next_seed()
        while len(self.skipped) > _MAX_SKIPPED:
            del self.skipped[next(iter(self.skipped))]
        return self.next_seed()


@dataclass(slots=True)
class PendingPreKeys:
    """Which keys of the other side opened the session, until it has answered once."""

    one_time_id: int | None
    signed_id: int


@dataclass(slots=True)
class Session:
    """One side of a session. Identities have 33 bytes; receivers are keyed by ratchet key."""

    local_identity: bytes
    remote_identity: bytes
    root: bytes
    ratchet: KeyPair
    sender: Chain
    base_key: bytes
    receivers: dict[bytes, Chain] = field(default_factory=dict)
    previous_counter: int = 0
    pending: PendingPreKeys | None = None

    def encrypt(self, plaintext: bytes, registration_id: int) -> tuple[str, bytes]:
        """Encrypt the next message.

        Returns:
            `pkmsg` until the other side has answered, then `msg`; and the ciphertext.
        """
        counter = self.sender.index
        key, mac_key, iv = _message_keys(self.sender.next_seed())
        body = VERSION + protobuf.encode(
            (1, self.ratchet.serialized),
            (2, counter),
            (3, self.previous_counter),
            (4, aes_cbc_encrypt(key, iv, plaintext)),
        )
        mac = hmac_sha256(mac_key, self.local_identity, self.remote_identity, body)[:_MAC_BYTES]
        if self.pending is None:
            return "msg", body + mac
        return "pkmsg", VERSION + protobuf.encode(
            (5, registration_id),
            (1, self.pending.one_time_id),
            (6, self.pending.signed_id),
            (2, self.base_key),
            (3, self.local_identity),
            (4, body + mac),
        )

    def decrypt(self, message: bytes) -> bytes:
        """Decrypt a message; a failure leaves the session as it was.

        :raises DuplicateMessage: if it is a repetition.
        :raises SignalError: if it is not for this session, or damaged.
        """
        trial = replace(
            self,
            sender=self.sender.copy(),
            receivers={key: chain.copy() for key, chain in self.receivers.items()},
        )
        plaintext = trial._decrypt(message)  # noqa: SLF001 (of a copy of oneself)
        for name in self.__slots__:
            setattr(self, name, getattr(trial, name))
        return plaintext

    def _decrypt(self, message: bytes) -> bytes:
        body, mac = message[:-_MAC_BYTES], message[-_MAC_BYTES:]
        if body[:1] != VERSION:
            raise SignalError("unknown version of the protocol")
        try:
            fields = protobuf.decode(body[1:])
            ratchet, counter = fields.bytes_(1), fields.integer(2)
            chain = self.receivers.get(ratchet) or self._turn(ratchet)
            key, mac_key, iv = _message_keys(chain.seed_for(counter))
            expected = hmac_sha256(mac_key, self.remote_identity, self.local_identity, body)
            if not hmac.compare_digest(mac, expected[:_MAC_BYTES]):
                raise SignalError("wrong MAC")
            plaintext = aes_cbc_decrypt(key, iv, fields.bytes_(4))
        except (ProtobufError, CurveError, CipherError) as error:
            raise SignalError("damaged message") from error
        self.pending = None
        return plaintext

    def _turn(self, ratchet: bytes) -> Chain:
        """The Diffie-Hellman step on a new ratchet key of the other side."""
        root, chain_key = root_step(self.root, self.ratchet.agree(ratchet))
        chain = self.receivers[ratchet] = Chain(chain_key)
        while len(self.receivers) > _MAX_RECEIVERS:
            del self.receivers[next(iter(self.receivers))]
        self.previous_counter = max(self.sender.index - 1, 0)
        self.ratchet = KeyPair.generate()
        self.root, sender_key = root_step(root, self.ratchet.agree(ratchet))
        self.sender = Chain(sender_key)
        return chain


def root_step(root: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Next root key and a new chain key."""
    keys = hkdf(secret, 64, b"WhisperRatchet", root)
    return keys[:32], keys[32:]


def _message_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(seed, 80, b"WhisperMessageKeys")
    return keys[:32], keys[32:64], keys[64:]

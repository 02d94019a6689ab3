"""Everything that one device remembers for Signal: identity, prekeys, sessions, sender keys.

Addresses are text: ``number:device``. The store is plain data and can be written to disk.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import Fields, ProtobufError
from bridge.sandbox.whatsapp.crypto.ciphers import hkdf
from bridge.sandbox.whatsapp.crypto.curve import CurveError, KeyPair, typed_public, verify
from bridge.sandbox.whatsapp.crypto.ratchet import (
    Chain,
    DuplicateMessage,
    PendingPreKeys,
    Session,
    SignalError,
    root_step,
)
from bridge.sandbox.whatsapp.crypto.sender_keys import SenderKey, SenderKeyRing

PREKEY_BATCH = 100
_MAX_SESSIONS = 20
_LAST_PREKEY_ID = 0xFFFFFF


@dataclass(frozen=True, slots=True)
class Bundle:
    """What somebody needs to write to a device for the first time."""

    registration_id: int
    identity: bytes
    signed_id: int
    signed_public: bytes
    signature: bytes
    one_time_id: int | None = None
    one_time_public: bytes | None = None


@dataclass(slots=True)
class SignalStore:
    """One device. `sender_rings` is keyed by ``group|address``."""

    identity: KeyPair
    registration_id: int
    signed_id: int
    signed_prekey: KeyPair
    signed_signature: bytes
    prekeys: dict[int, KeyPair] = field(default_factory=dict)
    next_prekey_id: int = 1
    sessions: dict[str, list[Session]] = field(default_factory=dict)
    own_sender_keys: dict[str, SenderKey] = field(default_factory=dict)
    sender_rings: dict[str, SenderKeyRing] = field(default_factory=dict)

    @classmethod
    def create(cls) -> SignalStore:
        """A new device without one-time prekeys."""
        identity, signed = KeyPair.generate(), KeyPair.generate()
        registration_id = 1 + secrets.randbelow((1 << 14) - 1)
        return cls(identity, registration_id, 1, signed, identity.sign(signed.serialized))

    def make_prekeys(self, count: int = PREKEY_BATCH) -> dict[int, bytes]:
        """Make one-time prekeys; gives the public halves for the server, by id."""
        made = {}
        for _ in range(count):
            pair = KeyPair.generate()
            self.prekeys[self.next_prekey_id] = pair
            made[self.next_prekey_id] = pair.public
            self.next_prekey_id = self.next_prekey_id % _LAST_PREKEY_ID + 1
        return made

    def has_session(self, address: str) -> bool:
        """Whether `encrypt` is possible for that address."""
        return bool(self.sessions.get(address))

    def open_session(self, address: str, bundle: Bundle) -> None:
        """X3DH as the one who writes first.

        :raises SignalError: if the bundle's signature or a key is wrong.
        """
        if not verify(bundle.identity, typed_public(bundle.signed_public), bundle.signature):
            raise SignalError("the signed prekey is not signed by this identity")
        base, ratchet = KeyPair.generate(), KeyPair.generate()
        try:
            secret = (
                b"\xff" * 32
                + self.identity.agree(bundle.signed_public)
                + base.agree(bundle.identity)
                + base.agree(bundle.signed_public)
                + (base.agree(bundle.one_time_public) if bundle.one_time_public else b"")
            )
            keys = hkdf(secret, 64, b"WhisperText")
            root, sender_key = root_step(keys[:32], ratchet.agree(bundle.signed_public))
        except CurveError as error:
            raise SignalError("the bundle holds something that is no key") from error
        session = Session(
            local_identity=self.identity.serialized,
            remote_identity=typed_public(bundle.identity),
            root=root,
            ratchet=ratchet,
            sender=Chain(sender_key),
            base_key=base.serialized,
            receivers={typed_public(bundle.signed_public): Chain(keys[32:])},
            pending=PendingPreKeys(bundle.one_time_id, bundle.signed_id),
        )
        self._keep(address, session)

    def encrypt(self, address: str, plaintext: bytes) -> tuple[str, bytes]:
        """Encrypt with the newest session; gives the enc type (`pkmsg` or `msg`) and the bytes."""
        return self.sessions[address][0].encrypt(plaintext, self.registration_id)

    def decrypt(self, address: str, kind: str, ciphertext: bytes) -> bytes:
        """Decrypt a `pkmsg` or `msg`.

        :raises DuplicateMessage: if it is a repetition.
        :raises SignalError: if no session fits.
        """
        if kind == "pkmsg":
            try:
                fields = protobuf.decode(ciphertext[1:])
                return self._decrypt_first(address, fields)
            except (ProtobufError, CurveError) as error:
                raise SignalError("damaged message") from error
        failure = SignalError("no session")
        for session in self.sessions.get(address, []):
            try:
                plaintext = session.decrypt(ciphertext)
            except DuplicateMessage:
                raise
            except SignalError as error:
                failure = error
                continue
            self._keep(address, session)
            return plaintext
        raise failure

    def own_sender_key(self, group: str) -> SenderKey:
        """Our key for a group, made on first use."""
        if group not in self.own_sender_keys:
            self.own_sender_keys[group] = SenderKey.generate()
        return self.own_sender_keys[group]

    def sender_ring(self, group: str, address: str) -> SenderKeyRing:
        """Another sender's keys for a group."""
        return self.sender_rings.setdefault(f"{group}|{address}", SenderKeyRing())

    def _decrypt_first(self, address: str, fields: Fields) -> bytes:
        """X3DH as the one who is written to. The one-time prekey goes only if it decrypts."""
        base, remote = fields.bytes_(2), fields.bytes_(3)
        for session in self.sessions.get(address, []):
            if session.base_key == base:
                return session.decrypt(fields.bytes_(4))
        if fields.integer(6) != self.signed_id:
            raise SignalError("no such signed prekey")
        secret = (
            b"\xff" * 32
            + self.signed_prekey.agree(remote)
            + self.identity.agree(base)
            + self.signed_prekey.agree(base)
        )
        one_time_id = fields.integer(1) if 1 in fields else None
        if one_time_id is not None:
            one_time = self.prekeys.get(one_time_id)
            if one_time is None:
                raise SignalError("the one-time prekey was used before")
            secret += one_time.agree(base)
        keys = hkdf(secret, 64, b"WhisperText")
        session = Session(
            local_identity=self.identity.serialized,
            remote_identity=typed_public(remote),
            root=keys[:32],
            ratchet=self.signed_prekey,
            sender=Chain(keys[32:]),
            base_key=base,
        )
        plaintext = session.decrypt(fields.bytes_(4))
        if one_time_id is not None:
            del self.prekeys[one_time_id]
        self._keep(address, session)
        return plaintext

    def _keep(self, address: str, session: Session) -> None:
        sessions = self.sessions.setdefault(address, [])
        if session in sessions:
            sessions.remove(session)
        sessions.insert(0, session)
        del sessions[_MAX_SESSIONS:]


def pad(plaintext: bytes) -> bytes:
    """WhatsApp's own padding in front of the cipher's: 1 to 15 bytes that tell their count."""
    size = 1 + secrets.randbelow(15)
    return plaintext + bytes([size]) * size


def unpad(plaintext: bytes) -> bytes:
    """Undo `pad`.

    :raises SignalError: if there is no such padding.
    """
    if not plaintext or not 0 < plaintext[-1] <= min(16, len(plaintext)):
        raise SignalError("wrong padding inside the message")
    return plaintext[: -plaintext[-1]]

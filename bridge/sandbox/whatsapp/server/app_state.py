"""App state ("syncd"): encrypted collections whose integrity is an LT-hash.

Here is what the server and a primary phone have to do: give a snapshot on a first sync and patches
afterwards, and take patches from companions. The simulator plays both, so it holds the keys.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from dataclasses import dataclass, field

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import Fields
from bridge.sandbox.whatsapp.crypto.ciphers import (
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    hkdf,
    hmac_sha256,
)

NAMES = ("critical_block", "critical_unblock_low", "regular_high", "regular", "regular_low")
_HASH_BYTES = 128
_MAC_BYTES = 32


@dataclass(slots=True)
class SyncKey:
    """The key a phone shares with its companions."""

    id: bytes
    data: bytes
    created_ms: int

    @classmethod
    def generate(cls) -> SyncKey:
        """A new key."""
        return cls(b"\0\0" + os.urandom(4), os.urandom(32), int(time.time() * 1000))

    def share(self) -> bytes:
        """AppStateSyncKey, as it goes into an AppStateSyncKeyShare."""
        fingerprint = protobuf.encode((1, 1), (2, 1))
        data = protobuf.encode((1, self.data), (2, fingerprint), (3, self.created_ms))
        return protobuf.encode((1, protobuf.encode((1, self.id))), (2, data))

    def derive(self) -> DerivedKeys:
        """The five keys made of it."""
        keys = hkdf(self.data, 160, b"WhatsApp Mutation Keys")
        return DerivedKeys(*(keys[at : at + 32] for at in range(0, 160, 32)))


@dataclass(frozen=True, slots=True)
class DerivedKeys:
    """Each 32 bytes."""

    index: bytes
    value: bytes
    value_mac: bytes
    snapshot_mac: bytes
    patch_mac: bytes


@dataclass(slots=True)
class Patch:
    """A SyncdPatch and the version it leads to."""

    version: int
    raw: bytes


@dataclass(slots=True)
class Collection:
    """One named collection; ``records`` is keyed by index MAC and holds SyncdRecords."""

    name: str
    key: SyncKey
    version: int = 0
    hash: bytes = bytes(_HASH_BYTES)
    records: dict[bytes, bytes] = field(default_factory=dict)
    patches: list[Patch] = field(default_factory=list)

    def put(self, index: list[str], value: bytes, action_version: int) -> None:
        """Add or replace one record, as a patch of its own.

        Args:
            index: what it is about, e.g. ``["contact", jid]``.
            value: a serialised SyncActionValue.
            action_version: version of that action's schema.
        """
        keys = self.key.derive()
        raw_index = json.dumps(index, separators=(",", ":")).encode()
        data = protobuf.encode((1, raw_index), (2, value), (3, b""), (4, action_version))
        iv = os.urandom(16)
        blob = iv + aes_cbc_encrypt(keys.value, iv, data)
        length = (len(self.key.id) + 1).to_bytes(8, "big")
        signed = b"\x01" + self.key.id + blob + length
        value_mac = hmac.digest(keys.value_mac, signed, "sha512")[:_MAC_BYTES]
        index_mac = hmac_sha256(keys.index, raw_index)
        record = protobuf.encode(
            (1, protobuf.encode((1, index_mac))),
            (2, protobuf.encode((1, blob + value_mac))),
            (3, protobuf.encode((1, self.key.id))),
        )
        self._replace(index_mac, record)
        self.version += 1
        snapshot_mac = self._snapshot_mac(keys)
        patch_mac = hmac_sha256(
            keys.patch_mac, snapshot_mac, value_mac, self._version_bytes(), self.name.encode()
        )
        patch = protobuf.encode(
            (1, protobuf.encode((1, self.version))),
            (2, protobuf.encode((1, 0), (2, record))),
            (4, snapshot_mac),
            (5, patch_mac),
            (6, protobuf.encode((1, self.key.id))),
        )
        self.patches.append(Patch(self.version, patch))

    def apply(self, raw: bytes) -> None:
        """Take a companion's patch. Its MACs are the companion's; the hash is made anew.

        :raises ProtobufError: if it is not a patch.
        """
        for mutation in protobuf.decode(raw).subs(2):
            record = mutation.sub(2)
            removes = mutation.integer(1) != 0
            self._replace(record.sub(1).bytes_(1), None if removes else mutation.bytes_(2))
        self.version += 1
        numbered = raw + protobuf.encode((1, protobuf.encode((1, self.version))))
        self.patches.append(Patch(self.version, numbered))

    def since(self, version: int) -> list[bytes]:
        """The patches after a version, oldest first."""
        return [patch.raw for patch in self.patches if patch.version > version]

    def read(self) -> dict[tuple[str, ...], Fields]:
        """Decrypt every record: index → SyncActionValue."""
        key = self.key.derive().value
        out = {}
        for raw in self.records.values():
            blob = protobuf.decode(raw).sub(2).bytes_(1)[:-_MAC_BYTES]
            data = protobuf.decode(aes_cbc_decrypt(key, blob[:16], blob[16:]))
            out[tuple(json.loads(data.bytes_(1)))] = data.sub(2)
        return out

    def snapshot(self) -> bytes:
        """A SyncdSnapshot of the present."""
        return protobuf.encode(
            (1, protobuf.encode((1, self.version))),
            (2, list(self.records.values())),
            (3, self._snapshot_mac(self.key.derive())),
            (4, protobuf.encode((1, self.key.id))),
        )

    def _replace(self, index_mac: bytes, record: bytes | None) -> None:
        if (old := self.records.pop(index_mac, None)) is not None:
            self.hash = _mix(self.hash, _value_mac(old), -1)
        if record is not None:
            self.hash = _mix(self.hash, _value_mac(record), 1)
            self.records[index_mac] = record

    def _version_bytes(self) -> bytes:
        return self.version.to_bytes(8, "big")

    def _snapshot_mac(self, keys: DerivedKeys) -> bytes:
        parts = (self.hash, self._version_bytes(), self.name.encode())
        return hmac_sha256(keys.snapshot_mac, *parts)


def _value_mac(record: bytes) -> bytes:
    return protobuf.decode(record).sub(2).bytes_(1)[-_MAC_BYTES:]


def _mix(state: bytes, value_mac: bytes, sign: int) -> bytes:
    """Add or take away one value: 64 little-endian 16-bit sums."""
    delta = hkdf(value_mac, _HASH_BYTES, b"WhatsApp Patch Integrity")
    out = bytearray()
    for at in range(0, _HASH_BYTES, 2):
        left = int.from_bytes(state[at : at + 2], "little")
        right = int.from_bytes(delta[at : at + 2], "little")
        out += ((left + sign * right) & 0xFFFF).to_bytes(2, "little")
    return bytes(out)

"""Seals bytes so that only holders of `BAILEYS_AUTH_SECRET` can read them; pure, no I/O.

Each account and purpose has its own AES-256 key, derived by HKDF-SHA256 from the secret. What is
sealed is tied to its place: purpose, account and generation are authenticated with it, so a sealed
state cannot be put in another account's row, nor an old one in the place of a newer one.

The secret is one value, or several as ``id:value,id:value``: the first seals, all open. That is how
a key is rotated: put the new one in front, seal everything again, take the old one away.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bridge.errors import AccountError, ConfigError
from bridge.ids import AccountId

ALGORITHM = "A256GCM"
NONCE_BYTES = 12
MIN_SECRET_CHARS = 16
_SALT = b"wabridge vault 1"
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,32}):(.+)", re.DOTALL)


class VaultError(AccountError):
    """Something sealed cannot be opened. Nothing is destroyed; codes below."""

    code = "sealed_corrupt"


def _key_unknown(key_id: str) -> VaultError:
    return VaultError(
        f"This was sealed with the key {key_id!r}, which BAILEYS_AUTH_SECRET does not hold. "
        "Put the old secret back (or behind the new one, as id:secret,id:secret).",
        code="key_unknown",
    )


def _corrupt() -> VaultError:
    return VaultError(
        "Sealed data was changed, or belongs to another account or generation.",
        code="sealed_corrupt",
    )


@dataclass(frozen=True, slots=True)
class Sealed:
    """Ciphertext with what is needed to open it, except the key."""

    key_id: str
    nonce: bytes
    data: bytes

    def to_json(self) -> dict[str, object]:
        """The form kept in `jsonb` columns."""
        return {
            "v": 1,
            "alg": ALGORITHM,
            "kid": self.key_id,
            "nonce": base64.b64encode(self.nonce).decode(),
            "data": base64.b64encode(self.data).decode(),
        }

    @classmethod
    def from_json(cls, value: object) -> Sealed:
        """Parse what `to_json` made.

        :raises VaultError: `sealed_corrupt`, if it is anything else.
        """
        match value:
            case {
                "v": 1,
                "alg": "A256GCM",
                "kid": str(kid),
                "nonce": str(nonce),
                "data": str(data),
            }:
                try:
                    return cls(
                        kid,
                        base64.b64decode(nonce, validate=True),
                        base64.b64decode(data, validate=True),
                    )
                except (binascii.Error, ValueError):
                    raise _corrupt() from None
            case _:
                raise _corrupt()


class AccountKeys(msgspec.Struct, frozen=True):
    """The keys of one account and one purpose: all that an engine process gets to know.

    Attributes:
        keys: (key id, 32 bytes); the first one seals.
    """

    account: AccountId
    purpose: str
    keys: list[tuple[str, bytes]]

    def __repr__(self) -> str:
        """Without the keys."""
        return f"AccountKeys(account={self.account!r}, purpose={self.purpose!r})"


class AccountVault:
    """Seals and opens for one account and one purpose."""

    def __init__(self, keys: AccountKeys) -> None:
        self._prefix = f"{keys.purpose}|{keys.account}|".encode()
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.keys}
        self.key_id = keys.keys[0][0]

    def seal(self, plaintext: bytes, *, generation: int) -> Sealed:
        """Seal with the first key."""
        nonce = os.urandom(NONCE_BYTES)
        data = self._ciphers[self.key_id].encrypt(nonce, plaintext, self._place(generation))
        return Sealed(self.key_id, nonce, data)

    def open(self, sealed: Sealed, *, generation: int) -> bytes:
        """Undo `seal`.

        :raises VaultError: `key_unknown` or `sealed_corrupt`.
        """
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise _key_unknown(sealed.key_id)
        try:
            return cipher.decrypt(sealed.nonce, sealed.data, self._place(generation))
        except (InvalidTag, ValueError):
            raise _corrupt() from None

    def _place(self, generation: int) -> bytes:
        return self._prefix + str(generation).encode()


class Vault:
    """Holds the secrets; makes the keys of accounts out of them."""

    def __init__(self, secrets: list[tuple[str, bytes]]) -> None:
        self._secrets = secrets

    @classmethod
    def from_secret(cls, text: str) -> Vault:
        """Read ``secret`` or ``id:secret,id:secret``.

        :raises ConfigError: if a secret is too short, or two have one id.
        """
        secrets: list[tuple[str, bytes]] = []
        for part in text.strip().split(","):
            named = _NAMED.fullmatch(part.strip())
            secret = (named[2] if named else part).strip()
            if len(secret) < MIN_SECRET_CHARS:
                raise ConfigError(
                    f"BAILEYS_AUTH_SECRET needs at least {MIN_SECRET_CHARS} characters a secret; "
                    "`wabridge keys generate` makes one."
                )
            raw = secret.encode()
            secrets.append((named[1] if named else _derive(raw, b"key id", 4).hex(), raw))
        if len({key_id for key_id, _ in secrets}) < len(secrets):
            raise ConfigError("BAILEYS_AUTH_SECRET holds two secrets with the same id.")
        return cls(secrets)

    @property
    def key_ids(self) -> list[str]:
        """Ids of all secrets; the first seals."""
        return [key_id for key_id, _ in self._secrets]

    def keys_of(self, account: AccountId, *, purpose: str) -> AccountKeys:
        """The keys of one account and purpose, to be given to another process."""
        info = f"{purpose}|{account}".encode()
        return AccountKeys(
            account, purpose, [(key_id, _derive(raw, info, 32)) for key_id, raw in self._secrets]
        )

    def seal(
        self, plaintext: bytes, *, purpose: str, account: AccountId, generation: int
    ) -> Sealed:
        """Seal with the first secret, tied to purpose, account and generation."""
        keys = self.keys_of(account, purpose=purpose)
        return AccountVault(keys).seal(plaintext, generation=generation)

    def open(self, sealed: Sealed, *, purpose: str, account: AccountId, generation: int) -> bytes:
        """Undo `seal`.

        :raises VaultError: `key_unknown` or `sealed_corrupt`.
        """
        keys = self.keys_of(account, purpose=purpose)
        return AccountVault(keys).open(sealed, generation=generation)

    def __repr__(self) -> str:
        """Key ids only."""
        return f"Vault({self.key_ids})"


def _derive(secret: bytes, info: bytes, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=_SALT, info=info).derive(secret)


def open_json(
    vault: Vault, value: Any, *, purpose: str, account: AccountId, generation: int
) -> bytes:
    """Open what a `jsonb` column holds.

    :raises VaultError: `key_unknown` or `sealed_corrupt`.
    """
    return vault.open(
        Sealed.from_json(value), purpose=purpose, account=account, generation=generation
    )

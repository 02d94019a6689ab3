"""How a password is kept: scrypt with a salt of its own, where a hosted project uses bcrypt."""

from __future__ import annotations

import base64
import hashlib
import secrets

SCHEME = "scrypt"
COST = 2**12
MINIMUM_LENGTH = 6


def seal(password: str) -> str:
    """The text that is stored for a password."""
    salt = secrets.token_bytes(16)
    return "$".join([SCHEME, _encode(salt), _encode(_derive(password, salt))])


def matches(password: str, sealed: str | None) -> bool:
    """Whether this is the password that was sealed."""
    scheme, _, rest = (sealed or "").partition("$")
    salt, _, key = rest.partition("$")
    if scheme != SCHEME or not key:
        return False
    return secrets.compare_digest(_encode(_derive(password, base64.b64decode(salt))), key)


def _derive(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=COST, r=8, p=1, dklen=32)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()

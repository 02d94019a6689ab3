"""The keys of one sandbox: made once, kept beside its data, checked on every request.

As on a hosted project there are four API keys for two roles: legacy JWTs and `sb_…` keys. An API
key only says which application calls; a user's access token beside it outranks its role.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import msgspec

Claims = dict[str, Any]
"""The payload of a JWT."""
TEN_YEARS_S = 10 * 365 * 24 * 3600
ISSUER = "supabase"


class Unauthorized(Exception):
    """The caller is not who it must be.

    Attributes:
        message: the sentence a client gets.
        expired: whether the token was good once.
        key_problem: whether it is the API key rather than the token.
    """

    def __init__(self, message: str, *, expired: bool = False, key_problem: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.expired = expired
        self.key_problem = key_problem


class StoredKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to `keys.json`."""

    jwt_secret: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    database_password: str
    auth_secret: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a sandbox, and the one place that judges tokens."""

    stored: StoredKeys

    def role_of_key(self, key: str) -> str | None:
        """The role that an API key stands for; None if it is none of ours."""
        roles = {
            self.stored.anon_key: "anon",
            self.stored.publishable_key: "anon",
            self.stored.service_role_key: "service_role",
            self.stored.secret_key: "service_role",
        }
        return roles.get(key)

    def claims_of_token(self, token: str) -> Claims:
        """What an access token says about its bearer.

        Raises:
            Unauthorized: if it is not signed by us, or has expired.
        """
        try:
            claims: Claims = jwt.decode(
                token, self.stored.jwt_secret, algorithms=["HS256"], options={"verify_aud": False}
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("JWT expired", expired=True) from error
        except jwt.InvalidTokenError as error:
            raise Unauthorized(str(error)) from error
        return claims

    def claims_of_request(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Claims:
        """Who a request is from: the API key first, then the bearer token if it is one.

        Raises:
            Unauthorized: without a key of ours, or with a bad token.
        """
        key = headers.get("apikey") or query.get("apikey") or ""
        if not key:
            raise Unauthorized("No API key found in request", key_problem=True)
        role = self.role_of_key(key)
        if role is None:
            raise Unauthorized("Invalid API key", key_problem=True)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return {"role": role}
        role_of_bearer = self.role_of_key(token)
        if role_of_bearer is not None:
            return {"role": role_of_bearer}
        if token.startswith("sb_"):
            raise Unauthorized("Invalid API key", key_problem=True)
        claims = self.claims_of_token(token)
        return claims if "role" in claims else {**claims, "role": "anon"}

    def sign(self, claims: Claims) -> str:
        """A token of ours over these claims."""
        return jwt.encode(claims, self.stored.jwt_secret, "HS256")


def load_or_make(path: Path) -> Keys:
    """The keys kept in this file; new ones if there is none."""
    if path.exists():
        return Keys(msgspec.json.decode(path.read_bytes(), type=StoredKeys))
    jwt_secret = secrets.token_urlsafe(48)
    now = int(time.time())

    def legacy_key(role: str) -> str:
        claims = {"iss": ISSUER, "role": role, "iat": now, "exp": now + TEN_YEARS_S}
        return jwt.encode(claims, jwt_secret, "HS256")

    keys = StoredKeys(
        jwt_secret=jwt_secret,
        anon_key=legacy_key("anon"),
        service_role_key=legacy_key("service_role"),
        publishable_key=f"sb_publishable_{secrets.token_urlsafe(24)}",
        secret_key=f"sb_secret_{secrets.token_urlsafe(24)}",
        database_password=secrets.token_hex(16),
        auth_secret=secrets.token_urlsafe(48),
    )
    path.touch(0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(keys)))
    return Keys(keys)

"""Users, their sessions and refresh tokens, as rows of the `auth` schema."""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from bridge.sandbox.auth import passwords
from bridge.sandbox.keys import Keys
from bridge.sandbox.pool import Pool, Row

ACCESS_TOKEN_S = 3600
REUSE_INTERVAL_S = 10
"""A refresh token that was just used works once more: two tabs refresh at the same time."""


class AuthError(Exception):
    """A request that is refused, as GoTrue words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class NewUser:
    """What a sign-up or an administrator says of a user."""

    email: str
    password: str | None
    user_metadata: dict[str, Any]
    app_metadata: dict[str, Any]
    confirmed: bool = True
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Accounts:
    """All users of the sandbox. Logs in as `supabase_auth_admin`."""

    pool: Pool
    keys: Keys
    issuer: str

    async def create(self, new: NewUser, *, taken: AuthError) -> Row:
        """Add a user; raises `taken` if the address is in use."""
        metadata = {"provider": "email", "providers": ["email"], **new.app_metadata}
        try:
            return await self._needed(
                "with added as ("
                " insert into auth.users (id, email, encrypted_password, email_confirmed_at,"
                "  raw_user_meta_data, raw_app_meta_data)"
                " values (coalesce(%s::uuid, gen_random_uuid()), %s, %s,"
                "  case when %s then now() end, %s, %s) returning *"
                "), identity as ("
                " insert into auth.identities (provider_id, user_id, identity_data, provider)"
                " select id::text, id, jsonb_build_object('sub', id, 'email', email,"
                "  'email_verified', email_confirmed_at is not null), 'email' from added"
                ") select * from added",
                new.id,
                new.email,
                passwords.seal(new.password) if new.password else None,
                new.confirmed,
                Jsonb(new.user_metadata),
                Jsonb(metadata),
            )
        except psycopg.errors.UniqueViolation as error:
            raise taken from error

    async def by_id(self, user_id: str) -> Row | None:
        """The user of that id."""
        return await self.pool.row("select * from auth.users where id::text = %s", user_id)

    async def page(self, page: int, size: int) -> list[Row]:
        """Users, newest first."""
        return await self.pool.rows(
            "select * from auth.users order by created_at desc, id limit %s offset %s",
            size,
            (page - 1) * size,
        )

    async def change(
        self,
        user_id: str,
        *,
        email: str | None = None,
        password: str | None = None,
        user_metadata: dict[str, Any] | None = None,
        app_metadata: dict[str, Any] | None = None,
        confirmed: bool = False,
    ) -> Row | None:
        """Change what is given; metadata is merged."""
        try:
            return await self.pool.row(
                "update auth.users set email = coalesce(%s, email),"
                " encrypted_password = coalesce(%s, encrypted_password),"
                " raw_user_meta_data = raw_user_meta_data || %s,"
                " raw_app_meta_data = raw_app_meta_data || %s,"
                " email_confirmed_at = case when %s then coalesce(email_confirmed_at, now())"
                "  else email_confirmed_at end,"
                " updated_at = now() where id::text = %s returning *",
                email,
                passwords.seal(password) if password else None,
                Jsonb(user_metadata or {}),
                Jsonb(app_metadata or {}),
                confirmed,
                user_id,
            )
        except psycopg.errors.UniqueViolation as error:
            message = "A user with this email address has already been registered"
            raise AuthError(422, "email_exists", message) from error

    async def delete(self, user_id: str) -> Row | None:
        """Remove a user and everything that hangs on them."""
        return await self.pool.row(
            "delete from auth.users where id::text = %s returning *", user_id
        )

    async def log_in(self, email: str, password: str) -> dict[str, Any]:
        """A session for the right password.

        Raises:
            AuthError: the same for an unknown address as for a wrong password.
        """
        user = await self.pool.row("select * from auth.users where email = %s", email)
        if user is None or not passwords.matches(password, user["encrypted_password"]):
            raise AuthError(400, "invalid_credentials", "Invalid login credentials")
        if user["email_confirmed_at"] is None:
            raise AuthError(400, "email_not_confirmed", "Email not confirmed")
        return await self.new_session(user)

    async def new_session(self, user: Row) -> dict[str, Any]:
        """Log a user in."""
        session = await self._needed(
            "insert into auth.sessions (user_id) values (%s) returning *", user["id"]
        )
        return await self._tokens(user["id"], session["id"])

    async def refresh(self, token: str) -> dict[str, Any]:
        """New tokens for a refresh token, which is spent by this.

        Raises:
            AuthError: if it is unknown, or was spent a while ago.
        """
        spent = await self.pool.row(
            "update auth.refresh_tokens set revoked = true, updated_at = case when revoked"
            " then updated_at else now() end where token = %s"
            " and (not revoked or updated_at > now() - make_interval(secs => %s))"
            " returning *",
            token,
            REUSE_INTERVAL_S,
        )
        if spent is None:
            message = "Invalid Refresh Token: Refresh Token Not Found"
            raise AuthError(400, "refresh_token_not_found", message)
        return await self._tokens(uuid.UUID(spent["user_id"]), spent["session_id"])

    async def log_out(self, user_id: str, session_id: str, scope: str) -> None:
        """End sessions: `global` all of them, `local` this one, `others` all but this one."""
        await self.pool.rows(
            "delete from auth.sessions where user_id::text = %s and case %s"
            " when 'local' then id::text = %s when 'others' then id::text <> %s else true end",
            user_id,
            scope,
            session_id,
            session_id,
        )

    async def _tokens(self, user_id: uuid.UUID, session_id: uuid.UUID) -> dict[str, Any]:
        refresh_token = secrets.token_urlsafe(12)
        user = await self._needed(
            "with token as (insert into auth.refresh_tokens (token, user_id, session_id)"
            " values (%s, %s, %s)) update auth.users set last_sign_in_at = now()"
            " where id = %s returning *",
            refresh_token,
            str(user_id),
            session_id,
            user_id,
        )
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": str(user_id),
            "aud": user["aud"],
            "exp": now + ACCESS_TOKEN_S,
            "iat": now,
            "email": user["email"],
            "phone": "",
            "app_metadata": user["raw_app_meta_data"],
            "user_metadata": user["raw_user_meta_data"],
            "role": user["role"],
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": str(session_id),
            "is_anonymous": False,
        }
        return {
            "access_token": self.keys.sign(claims),
            "token_type": "bearer",
            "expires_in": ACCESS_TOKEN_S,
            "expires_at": now + ACCESS_TOKEN_S,
            "refresh_token": refresh_token,
            "user": as_json(user),
        }

    async def _needed(self, query: str, *values: object) -> Row:
        row = await self.pool.row(query, *values)
        if row is None:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
        return row


def as_json(user: Row) -> dict[str, Any]:
    """A user as the clients parse them."""
    user_id = str(user["id"])
    times = {
        name: timestamp(user[name])
        for name in (
            *("email_confirmed_at", "confirmed_at", "last_sign_in_at"),
            *("created_at", "updated_at"),
        )
    }
    identity = {
        "identity_id": user_id,
        "id": user_id,
        "user_id": user_id,
        "identity_data": {"email": user["email"], "sub": user_id},
        "provider": "email",
        "email": user["email"],
        "last_sign_in_at": times["last_sign_in_at"],
        "created_at": times["created_at"],
        "updated_at": times["updated_at"],
    }
    return {
        "id": user_id,
        "aud": user["aud"],
        "role": user["role"],
        "email": user["email"],
        "phone": user["phone"] or "",
        "app_metadata": user["raw_app_meta_data"] or {},
        "user_metadata": user["raw_user_meta_data"] or {},
        "identities": [identity],
        "is_anonymous": user["is_anonymous"],
        **times,
    }


def timestamp(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, as Go writes it."""
    return value.isoformat().replace("+00:00", "Z") if value else None

"""`/auth/v1`: sign-up, password login, refresh, the user themselves, users by an administrator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg
from aiohttp import web

from bridge.sandbox.auth import passwords
from bridge.sandbox.auth.accounts import Accounts, AuthError, NewUser, as_json
from bridge.sandbox.keys import Claims, Keys, Unauthorized

PREFIX = "/auth/v1"
Body = dict[str, Any]

IGNORED = {"gotrue_meta_security", "code_challenge", "code_challenge_method", "options"}
SIGN_UP = {"email", "password", "data", "phone", "channel"}
CHANGE_SELF = {"email", "password", "data", "phone", "nonce"}
ADMINISTER = {"id", "email", "password", "email_confirm", "user_metadata", "app_metadata", "role"}


@dataclass(frozen=True, slots=True)
class AuthServer:
    """GoTrue's part of the gateway."""

    accounts: Accounts
    keys: Keys

    def routes(self) -> list[web.RouteDef]:
        """What the gateway serves of this."""
        return [web.route("*", PREFIX + "/{target:.*}", self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request; every fault becomes GoTrue's JSON."""
        try:
            return await self._answer(request)
        except AuthError as error:
            status, code, message = error.status, error.code, error.message
        except Unauthorized as error:
            if error.key_problem:
                return web.json_response({"message": error.message}, status=401)
            status, code, message = 403, "bad_jwt", f"invalid JWT: {error.message}"
        except psycopg.errors.DataError as error:
            status, code, message = 400, "validation_failed", str(error).splitlines()[0]
        except psycopg.Error:
            status, code, message = 500, "unexpected_failure", "Database error"
        body = {"code": status, "error_code": code, "msg": message}
        return web.json_response(body, status=status)

    async def _answer(self, request: web.Request) -> web.Response:
        target = request.match_info["target"].strip("/")
        if target == "health":
            return web.json_response({"name": "GoTrue", "version": "sandbox"})
        if target == ".well-known/jwks.json":
            return web.json_response({"keys": []})
        claims = self.keys.claims_of_request(request.headers, request.query)
        if target == "settings":
            return web.json_response(
                {"external": {"email": True}, "disable_signup": False, "mailer_autoconfirm": True}
            )
        body = await _json_body(request)
        match request.method, target:
            case "POST", "signup":
                return await self._sign_up(body)
            case "POST", "token":
                return await self._token(request.query.get("grant_type", ""), body)
            case "GET" | "PUT", "user":
                return await self._user(request.method, claims, body)
            case "POST", "logout":
                return await self._log_out(request.query.get("scope", "global"), claims)
        if target == "admin/users" or target.startswith("admin/users/"):
            if claims["role"] != "service_role":
                raise AuthError(403, "not_admin", "User not allowed")
            return await self._administer(request, target.removeprefix("admin/users")[1:], body)
        message = f"{request.method} {PREFIX}/{target} is not part of the sandbox"
        raise AuthError(501, "not_implemented", message)

    async def _sign_up(self, body: Body) -> web.Response:
        _refuse_unknown(body, SIGN_UP)
        if body.get("phone"):
            raise AuthError(422, "phone_provider_disabled", "Phone signups are disabled")
        if not body.get("email"):
            message = "Anonymous sign-ins are disabled"
            raise AuthError(422, "anonymous_provider_disabled", message)
        password = _text(body, "password")
        _check_password(password)
        new = NewUser(_email(body), password, _metadata(body, "data"), {})
        taken = AuthError(422, "user_already_exists", "User already registered")
        user = await self.accounts.create(new, taken=taken)
        return web.json_response(await self.accounts.new_session(user))

    async def _token(self, grant: str, body: Body) -> web.Response:
        if grant == "password":
            if not body.get("email"):
                raise AuthError(501, "not_implemented", "Only email logins are in the sandbox")
            session = await self.accounts.log_in(_email(body), _text(body, "password"))
        elif grant == "refresh_token":
            session = await self.accounts.refresh(_text(body, "refresh_token"))
        else:
            message = f"grant_type {grant!r} is not part of the sandbox"
            raise AuthError(501, "not_implemented", message)
        return web.json_response(session)

    async def _user(self, method: str, claims: Claims, body: Body) -> web.Response:
        user_id = _subject(claims)
        if method == "PUT":
            _refuse_unknown(body, CHANGE_SELF)
            if body.get("phone"):
                raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
            if body.get("password"):
                _check_password(_text(body, "password"))
            user = await self.accounts.change(
                user_id,
                email=_email(body) if body.get("email") else None,
                password=body.get("password"),
                user_metadata=_metadata(body, "data"),
            )
        else:
            user = await self.accounts.by_id(user_id)
        if user is None:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
        return web.json_response(as_json(user))

    async def _log_out(self, scope: str, claims: Claims) -> web.Response:
        if scope not in {"global", "local", "others"}:
            raise AuthError(400, "validation_failed", f"Unsupported logout scope {scope!r}")
        await self.accounts.log_out(_subject(claims), str(claims.get("session_id", "")), scope)
        return web.Response(status=204)

    async def _administer(self, request: web.Request, user_id: str, body: Body) -> web.Response:
        if not user_id and request.method == "GET":
            page = _number(request, "page", 1)
            rows = await self.accounts.page(page, _number(request, "per_page", 50))
            users = [as_json(row) for row in rows]
            return web.json_response({"users": users, "aud": "authenticated"})
        _check_administration(body)
        match request.method, bool(user_id):
            case "POST", False:
                user: Any = await self._create(body)
            case "GET", True:
                user = await self.accounts.by_id(user_id)
            case "PUT", True:
                user = await self.accounts.change(
                    user_id,
                    email=_email(body) if body.get("email") else None,
                    password=body.get("password"),
                    user_metadata=_metadata(body, "user_metadata"),
                    app_metadata=_metadata(body, "app_metadata"),
                    confirmed=bool(body.get("email_confirm")),
                )
            case "DELETE", True:
                user = await self.accounts.delete(user_id)
            case method, _:
                raise AuthError(405, "not_implemented", f"{method} is not allowed here")
        if user is None:
            raise AuthError(404, "user_not_found", "User not found")
        return web.json_response(as_json(user))

    async def _create(self, body: Body) -> Any:
        if not body.get("email"):
            raise AuthError(400, "validation_failed", "An email address is needed")
        if body.get("password"):
            _check_password(_text(body, "password"))
        new = NewUser(
            _email(body),
            body.get("password"),
            _metadata(body, "user_metadata"),
            _metadata(body, "app_metadata"),
            confirmed=bool(body.get("email_confirm")),
            id=body.get("id"),
        )
        message = "A user with this email address has already been registered"
        return await self.accounts.create(new, taken=AuthError(422, "email_exists", message))


def _check_administration(body: Body) -> None:
    if body.get("should_soft_delete"):
        raise AuthError(501, "not_implemented", "Soft deletion is not in the sandbox")
    if body.get("role") not in {None, "authenticated"}:
        raise AuthError(501, "not_implemented", "Other roles are not in the sandbox")
    _refuse_unknown(body, ADMINISTER | {"should_soft_delete"})


async def _json_body(request: web.Request) -> Body:
    if request.method not in {"POST", "PUT", "DELETE"} or not request.can_read_body:
        return {}
    try:
        body = json.loads(await request.text() or "{}")
    except ValueError as error:
        message = "Could not parse request body as JSON"
        raise AuthError(400, "bad_json", message) from error
    if not isinstance(body, dict):
        raise AuthError(400, "bad_json", "The request body must be a JSON object")
    return body


def _refuse_unknown(body: Body, known: set[str]) -> None:
    unknown = {key for key, value in body.items() if value is not None} - known - IGNORED
    if unknown:
        message = f"Not part of the sandbox: {', '.join(sorted(unknown))}"
        raise AuthError(501, "not_implemented", message)


def _text(body: Body, name: str) -> str:
    value = body.get(name) or ""
    if not isinstance(value, str):
        raise AuthError(400, "bad_json", f"{name} must be text")
    return value


def _email(body: Body) -> str:
    email = _text(body, "email").strip().lower()
    local, at, domain = email.partition("@")
    if not (local and at and domain) or any(char.isspace() for char in email):
        message = "Unable to validate email address: invalid format"
        raise AuthError(400, "validation_failed", message)
    return email


def _metadata(body: Body, name: str) -> Body:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise AuthError(400, "bad_json", f"{name} must be a JSON object")
    return value


def _check_password(password: str) -> None:
    if len(password) < passwords.MINIMUM_LENGTH:
        message = f"Password should be at least {passwords.MINIMUM_LENGTH} characters."
        raise AuthError(422, "weak_password", message)


def _subject(claims: Claims) -> str:
    if "sub" not in claims:
        raise AuthError(401, "no_authorization", "This endpoint requires a Bearer token")
    return str(claims["sub"])


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise AuthError(400, "validation_failed", f"{name} must be a positive number")
    return int(text)

"""Auth through supabase-py: sign-up, login, refresh, administration."""

from __future__ import annotations

import uuid

import jwt
import pytest
from supabase import AuthApiError, AuthError

from tests.integration.stack.conftest import PASSWORD

pytestmark = pytest.mark.anyio


def fresh_email() -> str:
    return f"New.{uuid.uuid4().hex[:12]}@Example.com"


async def refused(call, code: str) -> None:
    with pytest.raises(AuthApiError) as caught:
        await call
    assert caught.value.code == code, caught.value


async def test_signing_up_logs_in(clients):
    anon = await clients.anon()
    email = fresh_email()
    new = {"email": email, "password": PASSWORD, "options": {"data": {"name": "U"}}}
    made = await anon.auth.sign_up(new)
    assert made.user.email == email.lower()
    assert made.user.user_metadata["name"] == "U"
    claims = jwt.decode(made.session.access_token, options={"verify_signature": False})
    assert (claims["sub"], claims["role"], claims["aud"]) == (
        made.user.id,
        "authenticated",
        "authenticated",
    )
    await refused(anon.auth.sign_up(new), "user_already_exists")


async def test_bad_sign_ups_are_refused(clients):
    anon = await clients.anon()
    await refused(
        anon.auth.sign_up({"email": "nonsense", "password": PASSWORD}), "validation_failed"
    )
    with pytest.raises(AuthError):
        await anon.auth.sign_up({"email": fresh_email(), "password": "short"})


async def test_a_wrong_password_and_an_unknown_address_sound_the_same(clients):
    user, _ = await clients.user()
    email = (await user.auth.get_user()).user.email
    wrong = user.auth.sign_in_with_password({"email": email, "password": "wrong"})
    await refused(wrong, "invalid_credentials")
    unknown = user.auth.sign_in_with_password({"email": fresh_email(), "password": PASSWORD})
    await refused(unknown, "invalid_credentials")


async def test_a_session_is_refreshed_and_the_user_stays(clients):
    user, user_id = await clients.user()
    renewed = await user.auth.refresh_session()
    assert renewed.session.user.id == user_id
    assert (await user.auth.get_user()).user.id == user_id


async def test_an_unknown_refresh_token_is_refused(clients):
    anon = await clients.anon()
    await refused(anon.auth.refresh_session("nonsense"), "refresh_token_not_found")


async def test_logging_out_ends_the_session(clients):
    user, _ = await clients.user()
    session = await user.auth.get_session()
    await user.auth.sign_out()
    await refused(user.auth.refresh_session(session.refresh_token), "refresh_token_not_found")


async def test_people_change_themselves(clients):
    user, _ = await clients.user()
    changed = await user.auth.update_user({"data": {"theme": "dark"}, "password": "another one"})
    assert changed.user.user_metadata["theme"] == "dark"
    email = changed.user.email
    again = await user.auth.sign_in_with_password({"email": email, "password": "another one"})
    assert again.session is not None


async def test_an_administrator_makes_lists_changes_and_deletes(service):
    admin = service.auth.admin
    email = fresh_email().lower()
    new = {
        "email": email,
        "password": PASSWORD,
        "email_confirm": True,
        "app_metadata": {"plan": "x"},
    }
    made = (await admin.create_user(new)).user
    assert made.app_metadata["plan"] == "x"
    await refused(admin.create_user(new), "email_exists")
    assert email in {user.email for user in await admin.list_users()}
    changed = await admin.update_user_by_id(made.id, {"user_metadata": {"a": 1}})
    assert changed.user.user_metadata["a"] == 1
    assert (await admin.get_user_by_id(made.id)).user.email == email
    await admin.delete_user(made.id)
    await refused(admin.get_user_by_id(made.id), "user_not_found")


async def test_only_an_administrator_administers(clients):
    user, _ = await clients.user()
    with pytest.raises(AuthError):
        await user.auth.admin.list_users()


async def test_an_unconfirmed_address_cannot_log_in(clients, service):
    email = fresh_email()
    await service.auth.admin.create_user({"email": email, "password": PASSWORD})
    anon = await clients.anon()
    login = anon.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    await refused(login, "email_not_confirmed")


async def test_a_deleted_user_has_no_session(clients, service):
    user, user_id = await clients.user()
    await service.auth.admin.delete_user(user_id)
    with pytest.raises(AuthError):
        await user.auth.get_user()


async def test_what_is_not_there_says_so(clients):
    if clients.project.hosted:
        pytest.skip("a hosted project has it")
    anon = await clients.anon()
    with pytest.raises(AuthError, match="not part of the sandbox"):
        await anon.auth.sign_in_with_otp({"email": fresh_email()})

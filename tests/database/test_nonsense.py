"""Nonsense at `commands` is accepted as valid or refused with a sentence; nothing else happens."""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.database.project import Team, World, message, person

NOT_JSON = {"22P05", "22P02", "22003"}
"""What PostgreSQL itself refuses as no JSON of its kind, before any row is looked at: NUL and lone
surrogates in escapes, numbers beyond its range."""

KNOWN_TYPES = [
    *("connect", "disconnect", "logout", "send", "mark_read"),
    *("edit", "revoke", "react", "typing", "check_numbers", "sync_history", "refresh_profile"),
    *("group_create", "group_update", "group_participants", "group_invite", "group_leave"),
    *("set_profile", "block", "unblock", "reject_call"),
]
texts = st.text(max_size=40)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["+5511987654321", "111@lid", "1@g.us", str(uuid.UUID(int=1)), "x" * 70_000])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "to": scalars | anything,
        "type": st.sampled_from(["text", "image", "poll"]) | scalars,
        "text": scalars | anything,
        "method": st.sampled_from(["qr", "code"]) | scalars,
        "phone": scalars,
        "conversation_id": scalars | anything,
        "until_message_id": scalars,
        "mentions": anything,
    },
)
columns = st.fixed_dictionaries(
    {},
    optional={
        "idempotency_key": texts,
        "priority": st.integers(-40_000, 40_000),
        "run_at": st.sampled_from(["now", "infinity", "-infinity", "2500-01-01", "1000-01-01 BC"]),
        "expires_at": st.sampled_from(["infinity", "-infinity", "2026-01-01", "294276-12-31"]),
        "id": st.sampled_from([str(uuid.UUID(int=2)), None]),
    },
)

STATE = """
    select (select jsonb_agg(to_jsonb(c) order by c.id) from commands c where id <> %s) as commands,
      (select jsonb_agg(to_jsonb(a) order by a.id) from integration_accounts a) as accounts,
      (select jsonb_agg(to_jsonb(s) order by s.id) from whatsapp_baileys_sessions s) as sessions,
      (
        select jsonb_agg(to_jsonb(m) order by m.id) from messages m
        where command_id is distinct from %s
      ) as messages,
      (select jsonb_agg(to_jsonb(l) order by l.id) from leads l where l.workspace_id = %s) as leads,
      (select jsonb_agg(to_jsonb(w) order by w.id) from workspaces w) as workspaces
"""


def has_nul(value: Any) -> bool:
    return "\\u0000" in json.dumps(value)


@pytest.fixture
def account(world: World, team: Team) -> uuid.UUID:
    """An account beside one of another tenant in which something happened."""
    theirs = world.add_team()
    bridge = world.add_bridge()
    foreign = world.add_running_account(theirs, bridge)
    bridge.record(foreign, message("A", person("5511987654321", "111", "Ana")))
    return team.add_account()


@given(
    kind=st.sampled_from(KNOWN_TYPES) | texts,
    payload=nearly_right | anything,
    more=columns,
)
@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nonsense_is_valid_or_refused_with_a_sentence_and_touches_nothing_else(
    world: World, team: Team, account: uuid.UUID, kind: str, payload: Any, more: dict[str, Any]
) -> None:
    foreign = world.one("select workspace_id from integration_accounts where id <> %s", account)[
        "workspace_id"
    ]
    made = uuid.UUID(int=0)
    before = world.one(STATE, made, made, foreign)
    names = ["integration_account_id", "type", "payload", *more]
    try:
        made = team.agent.value(
            f"insert into commands ({', '.join(names)})"
            f" values ({', '.join(['%s'] * len(names))}) returning id",
            account,
            kind,
            json.dumps(payload),
            *more.values(),
        )
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if error.sqlstate is None:
            return  # a NUL in a plain column: no client can send that
        is_told = error.sqlstate == "22023" or error.sqlstate.startswith("23")
        assert is_told or error.sqlstate in NOT_JSON, error
        told = error.diag.message_primary or ""
        assert len(told) > 10
        assert "x" * 100 not in told + (error.diag.message_detail or "")
        if error.sqlstate == "22023":
            assert told.endswith("."), told
    except UnicodeEncodeError:
        return  # a lone surrogate in a plain column: no client can send that
    else:
        assert not has_nul(payload)
        row = world.one("select status, type from commands where id = %s", made)
        assert row == {"status": "pending", "type": kind}
        world.owner.execute("delete from commands where id = %s", [made])
        world.owner.execute("delete from messages where integration_account_id = %s", [account])
    assert world.one(STATE, made, made, foreign) == before


@given(payload=anything)
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nonsense_in_settings_is_refused_with_a_sentence(
    world: World, team: Team, payload: Any
) -> None:
    before = world.all("select * from integration_accounts")
    try:
        team.agent.run(
            "insert into integration_accounts (workspace_id, nome, settings) values (%s, 'x', %s)",
            team.workspace,
            json.dumps(payload),
        )
    except psycopg.DataError as error:
        assert error.sqlstate == "22023" or error.sqlstate in NOT_JSON
        assert world.all("select * from integration_accounts") == before
    else:
        assert payload == {}
        world.owner.execute("delete from integration_accounts")

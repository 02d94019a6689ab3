"""REST through supabase-py: what works, what is denied, what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from postgrest.exceptions import APIError

from tests.integration.stack.conftest import Client, Clients

pytestmark = pytest.mark.anyio


@pytest.fixture
async def notes(service: Client, room: str) -> list[dict[str, Any]]:
    """Five notes, numbered from 0."""
    rows = [
        {
            "room_id": room,
            "chat": "c",
            "body": "héllo",
            "n": n,
            "tags": ["a", "b"],
            "price": 1.5,
            "ok": True,
            "remote_id": f"r{n}",
            "payload": {"k": n},
        }
        for n in range(5)
    ]
    made: list[dict[str, Any]] = (await service.table("notes").insert(rows).execute()).data
    return made


async def refused(query, code: str) -> APIError:
    with pytest.raises(APIError) as caught:
        await query.execute()
    assert caught.value.code == code, caught.value
    return caught.value


class TestWriting:
    async def test_an_insert_returns_the_row_with_its_json_as_it_was(self, service):
        meta = {"a": [1, {"b": None}], "ü": "\U0001f600"}
        made = await service.table("rooms").insert({"phone": "+1", "meta": meta}).execute()
        assert made.data[0]["meta"] == meta

    @pytest.mark.parametrize("value", [True, None, "[1]", 9007199254740993, 1.5, [], {}])
    async def test_json_values_keep_their_type(self, service, room, value):
        row = {"room_id": room, "chat": "c", "payload": {"value": value}}
        made = await service.table("notes").insert(row).execute()
        assert made.data[0]["payload"] == {"value": value}

    async def test_a_minimal_insert_returns_nothing(self, service, room):
        row = {"room_id": room, "chat": "c"}
        made = await service.table("notes").insert(row, returning="minimal").execute()
        assert made.data == []

    async def test_an_empty_list_inserts_nothing(self, service):
        assert (await service.table("notes").insert([]).execute()).data == []

    async def test_upsert_merges_and_ignores(self, service, room):
        table = service.table("rooms")
        merged = await table.upsert({"id": room, "phone": "+2"}, on_conflict="id").execute()
        assert merged.data[0]["phone"] == "+2"
        again = {"id": room, "phone": "+3"}
        ignored = await table.upsert(again, on_conflict="id", ignore_duplicates=True).execute()
        assert ignored.data == []
        kept = await table.select("phone").eq("id", room).single().execute()
        assert kept.data == {"phone": "+2"}

    async def test_update_touches_only_what_the_filter_names(self, service, room, clients):
        other = await clients.room()
        made = await service.table("rooms").update({"state": "open"}).eq("id", room).execute()
        assert [row["state"] for row in made.data] == ["open"]
        assert made.data[0]["updated_at"] > made.data[0]["created_at"]
        kept = await service.table("rooms").select("state").eq("id", other).execute()
        assert kept.data == [{"state": "new"}]

    async def test_delete_returns_what_it_deleted(self, service, notes, room):
        gone = await service.table("notes").delete().eq("room_id", room).gte("n", 3).execute()
        assert sorted(row["n"] for row in gone.data) == [3, 4]

    async def test_writes_without_a_filter_are_refused(self, service):
        await refused(service.table("rooms").update({"state": "x"}), "21000")
        await refused(service.table("rooms").delete(), "21000")

    async def test_constraints_are_told_by_their_code(self, service, notes, room):
        table = service.table("notes")
        duplicate = {"room_id": room, "chat": "c", "remote_id": "r1"}
        await refused(table.insert(duplicate), "23505")
        await refused(table.insert({"room_id": str(uuid.uuid4()), "chat": "c"}), "23503")
        await refused(table.insert({"room_id": room}), "23502")
        error = await refused(service.table("rooms").insert({"phone": "x", "state": ""}), "23514")
        assert "rooms_state_is_not_empty" in str(error.message)

    async def test_bad_values_are_refused(self, service, room):
        table = service.table("notes")
        await refused(table.insert({"room_id": "nonsense", "chat": "c"}), "22P02")
        await refused(table.insert({"room_id": room, "chat": "c", "n": "seven"}), "22P02")
        await refused(table.insert({"room_id": room, "chat": "c", "nope": 1}), "PGRST204")
        await refused(table.insert({"room_id": room, "chat": "c", "body_length": 1}), "428C9")


class TestReading:
    async def test_filters_order_range_and_count(self, service, notes, room):
        query = service.table("notes").select("id, body, n, body_length, payload->k", count="exact")
        found = (
            await query.eq("room_id", room).gte("n", 1).order("n", desc=True).range(0, 1).execute()
        )
        assert found.count == 4
        assert [(row["n"], row["k"], row["body_length"]) for row in found.data] == [
            (4, 4, 5),
            (3, 3, 5),
        ]

    async def test_conditions_combine(self, service, notes, room):
        query = service.table("notes").select("n").eq("room_id", room)
        found = await (
            query.or_("n.eq.1,and(n.gt.1,n.not.in.(3,4))")
            .in_("n", [1, 2, 3])
            .contains("tags", ["a"])
            .filter("payload->>k", "eq", "2")
            .execute()
        )
        assert found.data == [{"n": 2}]

    @pytest.mark.parametrize(
        ("operator", "value", "expected"),
        [
            ("eq", "2", [2]),
            ("neq", "2", [0, 1, 3, 4]),
            ("gt", "3", [4]),
            ("lte", "1", [0, 1]),
            ("in", "(0,4)", [0, 4]),
            ("not.in", "(0,4)", [1, 2, 3]),
            ("in", "()", []),
            ("isdistinct", "0", [1, 2, 3, 4]),
            ("eq(any)", "{1,3}", [1, 3]),
            ("is", "null", []),
            ("not.is", "null", [0, 1, 2, 3, 4]),
        ],
    )
    async def test_operators(self, service, notes, room, operator, value, expected):
        query = service.table("notes").select("n").eq("room_id", room).filter("n", operator, value)
        found = await query.order("n").execute()
        assert [row["n"] for row in found.data] == expected

    @pytest.mark.parametrize(
        "text",
        [
            "+4915112345",
            "12345678901234567890",
            "true",
            "null",
            "a,b",
            "(x)",
            'say "hi"',
            "50%",
            "*",
            "back\\slash",
            "ünï cödé",
            "not.eq.x",
            "a.b",
            ":",
            "'; drop table notes; --",
            "&=?#",
        ],
    )
    async def test_any_text_is_found_again(self, service, room, text):
        table = service.table("notes")
        await table.insert({"room_id": room, "chat": text}).execute()
        for query in (
            table.select("chat").eq("room_id", room).eq("chat", text),
            table.select("chat").eq("room_id", room).in_("chat", [text, "something else"]),
        ):
            assert (await query.execute()).data == [{"chat": text}]

    async def test_like_takes_stars(self, service, notes, room):
        query = service.table("notes").select("n").eq("room_id", room).eq("n", 1)
        assert (await query.ilike("body", "HÉ*O").execute()).data == [{"n": 1}]

    async def test_types_come_out_as_json(self, service, notes):
        row = notes[0]
        assert row["price"] == 1.5
        assert row["ok"] is True
        assert row["tags"] == ["a", "b"]
        assert "T" in row["created_at"]
        assert row["created_at"].endswith("+00:00")

    async def test_aliases_and_casts(self, service, notes, room):
        query = service.table("notes").select("number:n::text, chat").eq("room_id", room).eq("n", 1)
        assert (await query.execute()).data == [{"number": "1", "chat": "c"}]

    async def test_one_row_or_none(self, service, room):
        table = service.table("rooms")
        assert (await table.select("id").eq("id", room).single().execute()).data == {"id": room}
        nobody = str(uuid.uuid4())
        assert await table.select("*").eq("id", nobody).maybe_single().execute() is None
        await refused(table.select("*").eq("id", nobody).single(), "PGRST116")

    async def test_no_more_than_a_thousand_rows(self, service, room):
        rows = [{"room_id": room, "chat": "many"} for _ in range(1001)]
        await service.table("notes").insert(rows, returning="minimal").execute()
        found = (
            await service.table("notes").select("id", count="exact").eq("room_id", room).execute()
        )
        assert len(found.data) == 1000
        assert found.count == 1001

    async def test_a_view_with_security_invoker(self, service, notes, room, clients):
        found = (
            await service.table("notes_with_phone").select("phone").eq("room_id", room).execute()
        )
        assert len(found.data) == 5
        stranger, _ = await clients.user()
        assert (await stranger.table("notes_with_phone").select("n").execute()).data == []


class TestEmbedding:
    async def test_the_one_of_many(self, service, notes, room):
        query = service.table("notes").select("n, rooms!inner(phone)").eq("rooms.id", room)
        found = await query.order("n").limit(1).execute()
        assert found.data == [{"n": 0, "rooms": {"phone": "+49 151 12345"}}]

    async def test_the_many_of_one_ordered_and_limited(self, service, notes, room):
        query = service.table("rooms").select("id, last:notes(n)").eq("id", room)
        query = query.order("n", desc=True, foreign_table="last").limit(2, foreign_table="last")
        found = await query.single().execute()
        assert found.data == {"id": room, "last": [{"n": 4}, {"n": 3}]}

    async def test_inner_drops_rows_without_a_match(self, service, notes, room, clients):
        empty = await clients.room()
        query = service.table("rooms").select("id, notes!inner(n)").in_("id", [room, empty])
        assert [row["id"] for row in (await query.execute()).data] == [room]

    async def test_spread_puts_columns_beside(self, service, notes, room):
        query = service.table("notes").select("n, ...rooms(phone)").eq("room_id", room).eq("n", 0)
        assert (await query.execute()).data == [{"n": 0, "phone": "+49 151 12345"}]

    async def test_a_hint_chooses_between_foreign_keys(self, service, notes, room):
        profile = {"room_id": room, "first_note_id": notes[0]["id"], "last_note_id": notes[4]["id"]}
        await service.table("profiles").insert(profile).execute()
        table = service.table("profiles")
        await refused(table.select("notes(n)").eq("room_id", room), "PGRST201")
        query = table.select("first:notes!first_note_id(n), last:notes!last_note_id(n)")
        found = await query.eq("room_id", room).single().execute()
        assert found.data == {"first": {"n": 0}, "last": {"n": 4}}

    async def test_to_one_from_the_other_side(self, service, room):
        await service.table("profiles").insert({"room_id": room, "about": "us"}).execute()
        query = service.table("rooms").select("profiles(about)").eq("id", room).single()
        assert (await query.execute()).data == {"profiles": {"about": "us"}}


class TestRefusals:
    async def test_unknown_names(self, service):
        await refused(service.table("nope").select("*"), "PGRST205")
        await refused(service.table("rooms").select("nope"), "42703")
        await refused(service.table("rooms").select("nope(id)"), "PGRST200")
        await refused(service.table("rooms").select("id").eq("nope.x", 1), "PGRST108")
        await refused(service.table("rooms").select("id").eq("nope", 1), "42703")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("id", "5"),
            ("id", "nope.5"),
            ("id", "in.5"),
            ("id", "is.five"),
            ("or", "(a.eq.1"),
            ("or", "()"),
            ("order", "id.sideways"),
            ("limit", "many"),
            ("select", "id("),
            ("select", "a:"),
        ],
    )
    async def test_what_does_not_follow_the_grammar(self, service, name, value):
        query = service.table("rooms").select("id")
        query.request.params = query.request.params.set(name, value)
        await refused(query, "PGRST100")

    async def test_aggregates_are_off(self, service):
        await refused(service.table("notes").select("n.sum()"), "PGRST123")


class TestFunctions:
    async def test_json_arguments_and_results(self, service):
        for value in ({"a": [1, {"b": None}]}, [1, "2"], "text", 7, True):
            assert (await service.rpc("echo", {"value": value}).execute()).data == value

    async def test_scalars_defaults_sets_and_variadics(self, service):
        assert (await service.rpc("next_number", {"x": 41}).execute()).data == 42
        assert (await service.rpc("next_number", {}, get=True).execute()).data == 2
        assert (await service.rpc("numbers", {"up_to": 3}).execute()).data == [1, 2, 3]
        assert (await service.rpc("joined", {"words": ["a", "b"]}).execute()).data == "a-b"
        assert (await service.rpc("one_column").execute()).data == [{"value": 7}]

    async def test_overloads_are_told_apart_by_their_arguments(self, service):
        assert (await service.rpc("overloaded", {"a": 1}).execute()).data == "a"
        assert (await service.rpc("overloaded", {"b": "x"}).execute()).data == "b"

    async def test_a_table_is_returned_and_a_repetition_changes_nothing(self, service, room):
        rows = [
            {"chat": "z", "n": n, "payload": {"x": [1]}, "remote_id": f"z{n}"} for n in range(500)
        ]
        call = {"room": room, "rows": rows}
        first = await service.rpc("ingest_notes", call).execute()
        assert first.data == [{"inserted": 500, "skipped": 0}]
        second = await service.rpc("ingest_notes", call).execute()
        assert second.data == [{"inserted": 0, "skipped": 500}]

    async def test_rows_of_a_function_can_be_selected_from(self, service, room):
        jobs = [{"room_id": room, "kind": "k", "args": {"n": n}} for n in range(3)]
        await service.table("jobs").delete().gte("id", 0).execute()
        await service.table("jobs").insert(jobs).execute()
        call = {"worker": "w", "at_most": 2, "lease": "10 seconds"}
        claimed = (
            await service.rpc("claim_jobs", call).select("kind, status, rooms(phone)").execute()
        )
        assert (
            claimed.data
            == [{"kind": "k", "status": "running", "rooms": {"phone": "+49 151 12345"}}] * 2
        )
        rest = await service.rpc("claim_jobs", {"worker": "w", "at_most": 9}).execute()
        assert len(rest.data) == 1

    async def test_errors_raised_in_sql_arrive_whole(self, service):
        error = await refused(service.rpc("refuses"), "PT409")
        assert (error.message, error.details, error.hint) == ("no can do", "a detail", "a hint")
        await refused(service.rpc("with_code", {"code": "WB001"}), "WB001")

    async def test_unknown_functions_and_arguments(self, service):
        await refused(service.rpc("nope"), "PGRST202")
        await refused(service.rpc("next_number", {"y": 1}), "PGRST202")

    async def test_reading_must_not_write(self, service, room):
        await refused(service.rpc("writes_while_reading", {"room": room}, get=True), "25006")

    async def test_a_slow_statement_is_cancelled_after_eight_seconds(self, service):
        await refused(service.rpc("sleeps", {"seconds": 20}), "57014")


class TestRowLevelSecurity:
    async def test_nobody_sees_nothing(self, clients, notes):
        anon = await clients.anon()
        assert (await anon.table("notes").select("*").execute()).data == []
        await refused(anon.table("rooms").select("id"), "42501")
        await refused(
            anon.table("jobs").insert({"room_id": str(uuid.uuid4()), "kind": "x"}), "42501"
        )
        await refused(anon.rpc("claim_jobs", {"worker": "x"}), "42501")

    async def test_a_member_sees_their_room_and_no_other(self, clients, room):
        other = await clients.room()
        user, user_id = await clients.user(room=room)
        found = await user.table("rooms").select("id").in_("id", [room, other]).execute()
        assert found.data == [{"id": room}]
        me = (await user.rpc("who_am_i").execute()).data
        assert me == {
            "id": user_id,
            "role": "authenticated",
            "user": "authenticated",
            "superuser": False,
        }

    async def test_a_member_inserts_in_their_name_only(self, clients: Clients, room):
        user, user_id = await clients.user(room=room)
        made = await user.table("jobs").insert({"room_id": room, "kind": "hi"}).execute()
        assert made.data[0]["created_by"] == user_id
        other = await clients.room()
        await refused(user.table("jobs").insert({"room_id": other, "kind": "hi"}), "42501")
        forged = {"room_id": room, "kind": "hi", "status": "done"}
        await refused(user.table("jobs").insert(forged), "42501")

    async def test_what_a_policy_hides_is_not_updated(self, clients, room):
        user, _ = await clients.user(room=room)
        await refused(user.table("rooms").update({"phone": "x"}).eq("id", room), "42501")

    async def test_a_column_that_is_not_granted_stays_hidden(self, clients, room):
        user, _ = await clients.user(room=room)
        await refused(user.table("rooms").select("secret").eq("id", room), "42501")
        await refused(user.table("rooms").select("*").eq("id", room), "42501")
        assert len((await user.table("rooms").select("id, phone").execute()).data) == 1

    async def test_the_login_role_can_become_no_superuser(self, clients, service):
        if clients.project.hosted:
            pytest.skip("hosted projects name their login role themselves")
        assert (await service.rpc("becomes_somebody_else").execute()).data == "authenticator"

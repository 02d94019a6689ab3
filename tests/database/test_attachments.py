"""Files of messages: kept with their message, claimed by one worker, finished once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person

SEALED = {"v": 1, "alg": "A256GCM", "kid": "k", "nonce": "", "data": ""}
SHA256 = "ab" * 32


def photo(**more: object) -> Row:
    return {
        "kind": "image",
        "mime_type": "image/jpeg",
        "file_name": None,
        "size_bytes": 1000,
        "sha256": SHA256,
        "width": 64,
        "height": 32,
        "duration_s": None,
        "waveform": None,
        "thumbnail": "/9j/",
        "media": None,
        "sealed": SEALED,
        **more,
    }


def keep(world: World, account: uuid.UUID, row: Row, attachment: Row) -> None:
    world.owner.execute(
        "select whatsapp_private.keep_attachment(%s, %s, %s, %s)",
        [row["id"], account, row["workspace_id"], Jsonb(attachment)],
    )


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    made = world.add_running_account(team, bridge)
    bridge.update(made, status="connected")
    return made


def received(world: World, bridge: Bridge, account: uuid.UUID, id_: str = "A1", **more: Any) -> Row:
    bridge.record(account, message(id_, person("5511987654321"), **more))
    row = world.one(f"select * from messages where whatsapp_message_id = '{id_}'")
    keep(world, account, row, photo())
    return row


def claim(bridge: Bridge, limit: int = 10, known: tuple[uuid.UUID, ...] = ()) -> list[Row]:
    return bridge.table("bridge_claim_attachments", bridge.worker, limit, list(known))


def finish(
    bridge: Bridge,
    account: uuid.UUID,
    attachment: uuid.UUID,
    status: str,
    facts: Row | None = None,
    *,
    error: str | None = None,
    retry_in_s: float | None = None,
    counts: bool = True,
) -> Any:
    return bridge.fenced(
        "bridge_finish_attachment",
        account,
        attachment,
        status,
        Jsonb(facts) if facts else None,
        error,
        retry_in_s,
        counts,
    )


def test_a_file_is_pending_until_it_is_stored_and_its_key_goes_then(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    row = received(world, bridge, account)
    (file,) = claim(bridge)
    assert (file["message_id"], file["conversation_id"]) == (row["id"], row["conversation_id"])
    assert (file["kind"], file["sealed"], file["attempts"]) == ("image", SEALED, 1)
    pending = world.one("select * from attachments")
    assert (pending["status"], pending["thumbnail"]) == ("pending", "data:image/jpeg;base64,/9j/")

    facts = {"path": "a/b", "size_bytes": 999, "width": None, "thumbnail": None}
    assert finish(bridge, account, file["id"], "stored", facts) is True
    stored = world.one("select * from attachments")
    assert (stored["status"], stored["path"], stored["size_bytes"]) == ("stored", "a/b", 999)
    assert (stored["width"], stored["thumbnail"]) == (64, "data:image/jpeg;base64,/9j/")
    assert world.all("select * from whatsapp_private.attachment_downloads") == []
    assert finish(bridge, account, file["id"], "stored", facts) is False


def test_a_message_has_one_file_however_often_it_is_told(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    row = received(world, bridge, account)
    keep(world, account, row, photo())
    assert len(world.all("select * from attachments")) == 1
    assert len(claim(bridge)) == 1


def test_a_file_without_a_way_to_it_is_expired(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A1", person("5511987654321")))
    keep(world, account, world.one("select * from messages"), photo(sealed=None))
    assert world.one("select * from attachments")["status"] == "expired"
    assert claim(bridge) == []


def test_files_are_given_out_the_newest_first_and_not_while_they_are_known(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    received(world, bridge, account, "A1", sent_at="2026-01-02T03:00:00Z")
    newest = received(world, bridge, account, "A2", sent_at="2026-01-03T03:00:00Z")
    (first,) = claim(bridge, 1)
    assert first["message_id"] == newest["id"]
    (second,) = claim(bridge, known=(first["id"],))
    assert claim(bridge, known=(first["id"], second["id"])) == []
    world.owner.execute("update whatsapp_baileys_sessions set lease_epoch = lease_epoch + 1")
    assert [file["attempts"] for file in claim(bridge)] == [2, 2]


def test_a_file_whose_claim_got_no_answer_is_given_out_again_as_the_same_attempt(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    received(world, bridge, account)
    (unheard,) = claim(bridge)
    (file,) = claim(bridge)
    assert file == unheard
    assert finish(bridge, account, file["id"], "stored", {"path": "a/b"}) is True


def test_what_is_put_back_waits_and_counts_unless_it_was_not_begun(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    received(world, bridge, account)
    (file,) = claim(bridge)
    assert finish(bridge, account, file["id"], "pending", error="Later.", retry_in_s=3600)
    assert claim(bridge) == []
    assert world.one("select * from attachments")["error"] == "Later."
    world.owner.execute("update whatsapp_private.attachment_downloads set run_at = now()")
    (file,) = claim(bridge)
    assert file["attempts"] == 2
    assert finish(bridge, account, file["id"], "pending", retry_in_s=0, counts=False)
    assert claim(bridge)[0]["attempts"] == 2


def test_what_was_put_back_is_not_finished_before_it_is_claimed_again(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    received(world, bridge, account)
    (file,) = claim(bridge)
    assert finish(bridge, account, file["id"], "pending", error="Later.") is True
    assert finish(bridge, account, file["id"], "failed", error="An old answer.") is False
    assert world.one("select status, error from attachments") == {
        "status": "pending",
        "error": "Later.",
    }


@pytest.mark.parametrize("status", ["failed", "expired"])
def test_what_is_given_up_keeps_its_key_and_is_not_claimed(
    world: World, bridge: Bridge, account: uuid.UUID, status: str
) -> None:
    received(world, bridge, account)
    (file,) = claim(bridge)
    finish(bridge, account, file["id"], status, error="No.")
    world.owner.execute("update whatsapp_baileys_sessions set lease_epoch = lease_epoch + 1")
    assert claim(bridge) == []
    assert world.one("select * from attachments")["status"] == status
    assert world.one("select * from whatsapp_private.attachment_downloads")["sealed"] == SEALED


def test_nobody_else_claims_and_a_lost_lease_writes_nothing(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    received(world, bridge, account)
    other = world.add_bridge()
    assert claim(other) == []
    (file,) = claim(bridge)
    world.expire_lease(account)
    with pytest.raises(errors.Error) as lost:
        finish(bridge, account, file["id"], "stored", {"path": "a"})
    assert lost.value.sqlstate == "WB001"
    assert world.one("select * from attachments")["status"] == "pending"


def test_files_of_an_account_that_is_not_connected_wait(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    received(world, bridge, account)
    bridge.update(account, status="connecting")
    assert claim(bridge) == []


def test_the_same_bytes_are_found_within_the_account_only(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    row = received(world, bridge, account)
    (file,) = claim(bridge)
    path = f"{row['workspace_id']}/{account}/c/m/photo.jpg"
    assert bridge.fenced("bridge_find_stored_file", account, SHA256) is None
    finish(bridge, account, file["id"], "stored", {"path": path, "sha256": SHA256})
    assert bridge.fenced("bridge_find_stored_file", account, SHA256) == path
    other = world.add_running_account(team, bridge)
    assert bridge.fenced("bridge_find_stored_file", other, SHA256) is None


def test_the_keys_are_nobodys_to_read(world: World, bridge: Bridge, account: uuid.UUID) -> None:
    received(world, bridge, account)
    team = world.add_team()
    with pytest.raises(errors.InsufficientPrivilege):
        team.agent.rows("select * from whatsapp_private.attachment_downloads")
    for function in (
        "bridge_claim_attachments('{0}', 1, '{{}}')",
        "bridge_find_stored_file('{0}', '{0}', 1, '')",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            team.agent.rows("select public." + function.format(uuid.uuid4()))


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"image_bytes": 0}, "image_bytes must be a whole number"),
        ({"image_bytes": 1.5}, "image_bytes must be a whole number"),
        ({"image_bytes": "9"}, "image_bytes must be a whole number"),
        ({"video_bytes": 2**31}, "video_bytes must be a whole number"),
        ({"gif_bytes": 1}, "key that is not known: 'gif_bytes'"),
        ([], "must be a JSON object"),
    ],
)
def test_limits_are_checked(team: Team, limits: object, problem: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=problem):
        team.add_account(media_limits=limits)
    team.add_account(media_limits={"video_bytes": 2**31 - 1}, history_days=3)
    with pytest.raises(errors.InvalidParameterValue, match="history_days"):
        team.add_account(media_limits={}, history_days=-3)

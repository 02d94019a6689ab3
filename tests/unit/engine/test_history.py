"""Histories on disk: nothing is lost by a crash, nothing readable lies around."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import pytest

from bridge.engine.history import Announced, HistoryStore, Stored, fetch_missing
from bridge.engine.past import part_of
from bridge.errors import CommandError
from bridge.events import HistoryPart, Person
from bridge.ids import AccountId, Jid, SpoolPosition
from bridge.vault import AccountVault, Vault
from tests.unit.engine.protobufs import past

OWN = Person(phone_jid=Jid("5511900000000@s.whatsapp.net"), lid=Jid("999@lid"))
KEYS = Vault.from_secret("a secret of the tests").keys_of(AccountId("a"), purpose="history")
ANNOUNCED = Announced(
    sync_type=3,
    chunk=2,
    direct_path="/v/secret-path",
    media_key=b"k" * 32,
    file_sha256=b"s" * 32,
    file_enc_sha256=b"e" * 32,
)


def store_at(directory: Path, *, days: int = 14) -> HistoryStore:
    return HistoryStore(directory, AccountVault(KEYS), days=days)


def history(chats: int = 3, messages: int = 120, *, progress: int = 50) -> bytes:
    whole = past.HistorySync(syncType=past.HistorySync.RECENT, chunkOrder=2, progress=progress)
    for index in range(chats):
        chat = whole.conversations.add(ID=f"{index}@lid", name="Nome legivel")
        for place in range(messages):
            info = chat.messages.add().message
            info.key.ID = f"{index}-{place}"
            info.message.conversation = "texto legivel"
            info.messageTimestamp = int(time.time()) - place
    return whole.SerializeToString()


def waiting(store: HistoryStore) -> list[Stored]:
    """What is there now; the last part of a history ends the reading."""
    found = []
    for stored in store.records(window=1_000):
        found.append(stored)
        if stored.record.last:
            break
    return found


def part(stored: Stored) -> HistoryPart:
    data = zlib.decompress(stored.record.data) if stored.record.data else b""
    return part_of(stored.record, data, past.HistorySync.FromString)


def ids(stored: list[Stored]) -> list[str]:
    return [m.id for each in stored for chat in part(each).chats for m in chat.messages]


def test_a_history_is_given_out_in_parts_with_its_progress(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.keep(memoryview(history()), OWN)
    parts = waiting(store)
    assert len(parts) > 3
    assert len(ids(parts)) == len(set(ids(parts))) == 360
    assert [p.record.last for p in parts] == [False] * (len(parts) - 1) + [True]
    assert {p.record.progress for p in parts} == {50}
    assert part(parts[0]).own == OWN
    store.close()


def test_what_was_not_confirmed_comes_again_after_a_crash(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.keep(memoryview(history()), OWN)
    parts = waiting(store)
    store.confirm(parts[1].position)
    store.close()

    again = store_at(tmp_path)
    assert [p.position for p in waiting(again)] == [p.position for p in parts[2:]]
    again.close()


def test_nothing_on_the_disk_can_be_read(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.announce(ANNOUNCED)
    store.keep(memoryview(history()), OWN)
    store.announce(
        Announced(
            sync_type=0,
            chunk=1,
            direct_path="/v/secret-path",
            media_key=b"k" * 32,
            file_sha256=b"",
            file_enc_sha256=b"",
        )
    )
    for file in tmp_path.rglob("*"):
        if file.is_file():
            raw = file.read_bytes()
            assert b"legivel" not in raw
            assert b"secret-path" not in raw
            assert file.stat().st_mode & 0o077 == 0
    store.close()


def test_a_history_that_was_announced_and_never_came_is_fetched_later(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.announce(ANNOUNCED)
    store.close()  # the process dies before it comes

    again = store_at(tmp_path)
    asked: list[Announced] = []

    def get(announced: Announced) -> bytes:
        asked.append(announced)
        return zlib.compress(history())

    fetch_missing(again, get, OWN)
    assert asked == [ANNOUNCED]
    assert len(ids(waiting(again))) == 360
    assert again.missing() == []
    again.close()


@pytest.mark.parametrize("answer", [None, b"no zlib", zlib.compress(b"")])
def test_a_history_that_is_gone_is_told_as_lost(tmp_path: Path, answer: bytes | None) -> None:
    store = store_at(tmp_path)
    store.announce(ANNOUNCED)
    fetch_missing(store, lambda _: answer, OWN)
    (stored,) = waiting(store)
    assert part(stored).lost
    assert store.missing() == []
    store.close()


def test_a_history_that_cannot_be_had_now_stays_announced(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.announce(ANNOUNCED)

    def away(_: Announced) -> bytes:
        raise CommandError("Not now.", code="not_connected", retryable=True)

    with pytest.raises(CommandError):
        fetch_missing(store, away, OWN)
    assert store.missing() == [ANNOUNCED]
    store.close()


def test_an_announcement_that_comes_after_its_history_waits_for_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.keep(memoryview(history()), OWN)
    store.announce(ANNOUNCED)
    assert store.missing() == []
    store.close()


def test_without_days_nothing_is_kept(tmp_path: Path) -> None:
    store = store_at(tmp_path, days=0)
    store.announce(ANNOUNCED)
    store.keep(memoryview(history()), OWN)
    store.confirm(SpoolPosition(1))
    assert store.missing() == []
    assert not list(tmp_path.glob("*.spool"))
    store.close()


def test_another_phone_finds_nothing_of_the_one_before(tmp_path: Path) -> None:
    directory = tmp_path / "history"
    directory.mkdir()
    store = store_at(directory)
    store.keep(memoryview(history()), OWN)
    store.announce(ANNOUNCED)
    store.close()
    HistoryStore.wipe(directory)
    again = store_at(directory)
    assert again.missing() == []
    again.close()

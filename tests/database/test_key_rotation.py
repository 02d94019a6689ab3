"""A new key in front of the old one: everything is sealed anew, whatever bridges do meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from psycopg.types.json import Jsonb

from bridge.accounts.saver import PURPOSE as SESSION
from bridge.ids import AccountId
from bridge.media.incoming import PURPOSE as MEDIA
from bridge.service.rotation import Rotated, rotate
from bridge.supabase.answers import SealedItem
from bridge.vault import Vault, open_json
from tests.database.project import Bridge, Row, Team, World, message, person

pytestmark = pytest.mark.anyio

OLD = Vault.from_secret("old:" + "o" * 40)
BOTH = Vault.from_secret("new:" + "n" * 40 + ",old:" + "o" * 40)
NEW = Vault.from_secret("new:" + "n" * 40)
ANA = person("5511987654321", name="Ana")


class Rpc:
    """The functions; `before_reseal` is what happens between reading and writing."""

    def __init__(self, bridge: Bridge, before_reseal: Callable[[], None] = lambda: None) -> None:
        self._bridge = bridge
        self._before_reseal = before_reseal

    async def list_sealed(self, key_id: str, skip: Sequence[str], limit: int) -> list[SealedItem]:
        rows = self._bridge.table("bridge_list_sealed", key_id, list(skip), limit)
        return [
            msgspec.convert(row | {"account_id": str(row["account_id"])}, SealedItem)
            for row in rows
        ]

    async def reseal(self, items: Sequence[dict[str, Any]]) -> dict[str, int]:
        self._before_reseal()
        changed: dict[str, int] = self._bridge.call("bridge_reseal", Jsonb(list(items)))
        return changed


def sealed(vault: Vault, account: uuid.UUID, plain: bytes, generation: int) -> Jsonb:
    return Jsonb(
        vault.seal(
            plain, purpose=SESSION, account=AccountId(str(account)), generation=generation
        ).to_json()
    )


def states(bridge: Bridge, account: uuid.UUID, vault: Vault) -> list[bytes]:
    """The saved session, base and changes, as this key opens them."""
    loaded: Row = bridge.fenced("bridge_load_session", account)
    parts = [(delta["generation"], delta["delta"]) for delta in loaded["deltas"]]
    first = parts[0][0] - 1 if parts else loaded["generation"]
    return [
        open_json(
            vault, value, purpose=SESSION, account=AccountId(str(account)), generation=generation
        )
        for generation, value in [(first, loaded["auth_state"]), *parts]
    ]


@pytest.fixture
def accounts(world: World, team: Team, bridge: Bridge) -> list[uuid.UUID]:
    """Two accounts with a base and two changes each, and one file that waits to be fetched."""
    made = [team.add_account() for _ in range(2)]
    for account in made:
        world.set_desired(account, "running")
    bridge.hold()
    for account in made:
        bridge.fenced("bridge_save_session", account, 1, sealed(OLD, account, b"base", 1))
        for generation in (2, 3):
            delta = sealed(OLD, account, b"change %d" % generation, generation)
            bridge.fenced("bridge_save_session_delta", account, generation, delta)
    media = OLD.seal(b"key", purpose=MEDIA, account=AccountId(str(made[0])), generation=0)
    attachment = {"kind": "image", "sealed": media.to_json()}
    bridge.record(made[0], message("A1", ANA, tipo="image", attachment=attachment))
    return made


async def test_everything_opens_with_the_new_key_alone_afterwards(
    world: World, bridge: Bridge, accounts: list[uuid.UUID]
) -> None:
    rotated = await rotate(Rpc(bridge), BOTH)
    assert rotated.resealed == {"session": 2, "change": 4, "media": 1}
    for account in accounts:
        assert states(bridge, account, NEW) == [b"base", b"change 2", b"change 3"]
    download = world.one("select sealed from whatsapp_private.attachment_downloads")
    assert (
        open_json(
            NEW,
            download["sealed"],
            purpose=MEDIA,
            account=AccountId(str(accounts[0])),
            generation=0,
        )
        == b"key"
    )
    assert bridge.call("bridge_check")["sealed_key_ids"] == ["new"]
    assert await rotate(Rpc(bridge), BOTH) == Rotated()


async def test_what_a_bridge_saves_meanwhile_is_neither_lost_nor_rolled_back(
    bridge: Bridge, accounts: list[uuid.UUID]
) -> None:
    account, other = accounts
    steps = [
        lambda: bridge.fenced("bridge_save_session", account, 4, sealed(OLD, account, b"new", 4)),
        lambda: bridge.fenced(
            "bridge_save_session_delta", other, 4, sealed(BOTH, other, b"change 4", 4)
        ),
    ]

    def meanwhile() -> None:
        if steps:
            steps.pop(0)()

    rotated = await rotate(Rpc(bridge, meanwhile), BOTH)
    assert not rotated.unfinished
    assert states(bridge, account, NEW) == [b"new"]
    assert states(bridge, other, NEW) == [b"base", b"change 2", b"change 3", b"change 4"]
    # and whoever runs the account saves on
    bridge.fenced("bridge_save_session_delta", account, 5, sealed(BOTH, account, b"x", 5))


async def test_a_rotation_that_was_cut_short_is_finished_by_the_next_one(
    bridge: Bridge, accounts: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.service.rotation.AT_ONCE", 2)
    calls = 0

    def cut() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await rotate(Rpc(bridge, cut), BOTH)
    # in the middle both keys are needed, and enough
    for account in accounts:
        assert states(bridge, account, BOTH) == [b"base", b"change 2", b"change 3"]
    rotated = await rotate(Rpc(bridge), BOTH)
    assert sum(rotated.resealed.values()) == 5
    for account in accounts:
        assert states(bridge, account, NEW) == [b"base", b"change 2", b"change 3"]


async def test_what_cannot_be_opened_is_told_and_left_as_it_is(
    world: World, bridge: Bridge, accounts: list[uuid.UUID]
) -> None:
    world.owner.execute(
        'update whatsapp_baileys_sessions set auth_state = auth_state || \'{"kid": "gone"}\''
        " where integration_account_id = %s",
        [accounts[0]],
    )
    rotated = await rotate(Rpc(bridge), BOTH)
    assert rotated.unreadable == {str(accounts[0]): "key_unknown"}
    assert rotated.resealed == {"session": 1, "change": 4, "media": 1}
    assert bridge.call("bridge_check")["sealed_key_ids"] == ["gone", "new"]


async def test_nothing_waits_for_what_is_being_written(
    world: World, bridge: Bridge, accounts: list[uuid.UUID]
) -> None:
    with world.project.connect_api() as writing:
        rounds = 0

        def meanwhile() -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                writing.execute("begin")
                writer = bridge.on(writing)
                for account in accounts:
                    delta = sealed(BOTH, account, b"change 4", 4)
                    writer.fenced("bridge_save_session_delta", account, 4, delta)
                # otherwise the next call would wait for this very thread
                world.api.execute("set statement_timeout = '5s'")
            elif rounds == 3:
                writing.execute("commit")

        rotated = await rotate(Rpc(bridge, meanwhile), BOTH)
    assert not rotated.unfinished
    assert rotated.resealed == {"session": 2, "change": 4, "media": 1}
    for account in accounts:
        assert states(bridge, account, NEW) == [b"base", b"change 2", b"change 3", b"change 4"]


async def test_a_bridge_that_seals_faster_with_the_old_key_is_told_of(
    bridge: Bridge, accounts: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.service.rotation.PAUSES_WITHOUT_PROGRESS_S", (0.0,) * 5)
    generation = 3

    def meanwhile() -> None:
        nonlocal generation
        generation += 1
        for account in accounts:
            base = sealed(OLD, account, b"again", generation)
            bridge.fenced("bridge_save_session", account, generation, base)

    assert (await rotate(Rpc(bridge, meanwhile), BOTH)).unfinished

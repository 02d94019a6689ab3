"""What people and groups look like, and who is blocked, asked of WhatsApp through the engine."""

import hashlib
import os

import pytest

from bridge import events as ev
from bridge.ids import Jid
from bridge.orders import AskBlocklist, AskPerson, Block, FetchPicture
from tests.integration.engine.driver import call, linked, phone_jid

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xe0" + os.urandom(20_000)
OTHER = b"\xff\xd8\xff\xe0" + os.urandom(20_000)


@pytest.fixture
async def drive(place, phones, vault, account, owner):
    async with place.host() as host, linked(host, account, vault, phones, owner) as session:
        yield session


async def test_pictures_of_a_person_are_fetched_and_known_ones_are_not(
    drive, phones, owner, ana, tmp_path
):
    file = tmp_path / "picture"

    async def fetch(known_id=None):
        order = FetchPicture(
            of=phone_jid(ana), path=str(file), max_bytes=1 << 20, known_id=known_id
        )
        return await drive.session.ask(order)

    assert await fetch() == {"state": "none"}
    await call(phones.set_picture, ana, JPEG)
    told = await fetch()
    assert file.read_bytes() == JPEG
    assert told == {
        "state": "fetched",
        "id": told["id"],
        "sha256": hashlib.sha256(JPEG).hexdigest(),
        "size_bytes": len(JPEG),
    }
    assert await fetch(told["id"]) == {"state": "unchanged"}
    await call(phones.set_picture, ana, OTHER)
    changed = await drive.event(ev.PictureChanged)
    assert changed.person.lid == phones.phone(ana)["lid"]
    assert (await fetch(told["id"]))["sha256"] == hashlib.sha256(OTHER).hexdigest()
    await call(phones.set_picture, ana, b"")
    assert await fetch() == {"state": "none"}
    await call(phones.set_picture, ana, JPEG)
    await call(phones.change_phone, ana, picture_hidden_from=[owner])
    assert await fetch() == {"state": "hidden"}


async def test_a_new_picture_of_a_group_is_told_with_who_set_it(
    drive, phones, owner, ana, tmp_path
):
    group = await call(phones.add_group, "Sales", [ana, owner])
    file = tmp_path / "picture"
    order = FetchPicture(of=Jid(group), path=str(file), max_bytes=1 << 20)
    assert await drive.session.ask(order) == {"state": "none"}
    await call(phones.set_group_picture, group, JPEG)
    changed = await drive.event(ev.GroupNews, lambda each: each.picture is not None)
    assert (changed.chat, changed.picture) == (group, True)
    assert changed.by.lid == phones.phone(ana)["lid"]
    assert (await drive.session.ask(order))["state"] == "fetched"
    assert file.read_bytes() == JPEG


async def test_a_person_tells_a_business_name_and_a_text(drive, phones, owner, ana):
    await call(phones.change_phone, ana, about="Atendo das 9 às 18", business_name="Ana Flores")
    await call(phones.send_text, ana, owner, "oi")
    await drive.text("oi")
    assert await drive.session.ask(AskPerson(person=phone_jid(ana))) == {
        "push_name": "Ana",
        "business_name": "Ana Flores",
        "about": "Atendo das 9 às 18",
    }


async def test_whom_the_account_blocks_is_told_with_both_addresses(drive, phones, owner, ana):
    both = {"phone_jid": phone_jid(ana), "lid": phones.phone(ana)["lid"]}
    await call(phones.send_text, ana, owner, "oi")
    await drive.text("oi")  # from now on it is known whose LID that is

    await call(phones.change_phone, owner, blocked=[ana])
    await drive.signal(ev.BlocklistChanged)
    assert await drive.session.ask(AskBlocklist()) == [both]

    told = len(drive.signals)
    await drive.session.ask(Block(person=phone_jid(ana), blocked=False))
    await drive.signal(ev.BlocklistChanged, after=told)
    assert await drive.session.ask(AskBlocklist()) == []

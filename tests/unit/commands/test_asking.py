"""What is asked of WhatsApp by commands, and what is made of its answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands.asking import Asker, OutcomeUnknown
from bridge.commands.sending import Composer
from bridge.errors import CommandError
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, WhatsAppMessageId, spellings
from bridge.orders import (
    Block,
    Card,
    CheckNumbers,
    Contact,
    CreateGroup,
    Edit,
    Media,
    Quote,
    RejectCall,
    Text,
)
from bridge.supabase.answers import ClaimedCommand, CommandContext, Target, TargetFile
from tests.unit.commands.test_executor import CHAT, FakeAccount, FakeRpc, NoFiles

pytestmark = pytest.mark.anyio


class Answering(FakeAccount):
    """Answers what it is asked, or fails."""

    def __init__(self, answer: Any = None, fault: Exception | None = None) -> None:
        super().__init__(fault)
        self.answer = answer

    async def ask(self, order: Any) -> Any:
        self._called("ask", order)
        return self.answer(order) if callable(self.answer) else self.answer


def command(type_: str, payload: dict[str, Any]) -> ClaimedCommand:
    return ClaimedCommand(
        id=CommandId("c1"),
        account_id=AccountId("a1"),
        lease_epoch=LeaseEpoch(1),
        type=type_,
        payload=payload,
        attempts=1,
        claims=1,
        chat_jid=CHAT,
    )


async def asked(
    account: FakeAccount,
    type_: str,
    payload: dict[str, Any],
    known: CommandContext | None = None,
) -> Any:
    async def context() -> CommandContext:
        return known or CommandContext()

    return await Asker(NoFiles().picture).do(account, command(type_, payload), context)


@pytest.mark.parametrize(
    ("digits", "both"),
    [
        ("5511987654321", ["5511987654321", "551187654321"]),
        ("551187654321", ["551187654321", "5511987654321"]),
        ("551131234567", ["551131234567"]),  # a landline
        ("5511931234567", ["5511931234567"]),  # a mobile; without the nine somebody's landline
        ("14155552671", ["14155552671"]),
        ("351912345678", ["351912345678"]),
    ],
)
def test_brazilian_mobiles_have_two_spellings(digits: str, both: list[str]) -> None:
    assert spellings(digits) == both


@given(st.from_regex(r"[1-9][0-9]{7,14}", fullmatch=True))
def test_spellings_begin_with_what_was_given_and_lead_back_to_it(digits: str) -> None:
    found = spellings(digits)
    assert found[0] == digits
    assert all(digits in spellings(other) for other in found)


async def test_numbers_are_found_under_either_spelling() -> None:
    def answer(order: CheckNumbers) -> list[dict[str, Any]]:
        assert order.numbers == ["5511987654321", "551187654321", "14155552671"]
        return [
            {"number": "5511987654321", "jid": None, "lid": None},
            {"number": "551187654321", "jid": "551187654321@s.whatsapp.net", "lid": "1@lid"},
            {"number": "14155552671", "jid": None, "lid": None},
        ]

    given_ = ["+55 11 98765-4321", "+1 415 555 2671", "551187654321"]
    digits = ["5511987654321", "14155552671", "551187654321"]
    result = await asked(
        Answering(answer), "check_numbers", {"numbers": given_}, CommandContext(numbers=digits)
    )
    assert result == [
        {"number": given_[0], "exists": True, "jid": "551187654321@s.whatsapp.net", "lid": "1@lid"},
        {"number": given_[1], "exists": False, "jid": None, "lid": None},
        {"number": given_[2], "exists": True, "jid": "551187654321@s.whatsapp.net", "lid": "1@lid"},
    ]


@pytest.mark.parametrize("code", ["whatsapp_timeout", "connection_lost", "engine_died"])
async def test_a_group_that_may_have_been_made_is_not_made_again(code: str) -> None:
    account = Answering(fault=CommandError("?", code=code, retryable=True))
    with pytest.raises(OutcomeUnknown):
        await asked(account, "group_create", {"subject": "x", "participants": ["1@lid"]})
    assert account.calls == [("ask", CreateGroup(subject="x", participants=[Jid("1@lid")]))]


async def test_a_group_that_was_not_made_may_be_tried_again() -> None:
    account = Answering(fault=CommandError("?", code="not_connected", retryable=True))
    with pytest.raises(CommandError) as error:
        await asked(account, "group_create", {"subject": "x", "participants": ["1@lid"]})
    assert error.value.retryable


async def test_a_call_is_refused_by_its_own_id() -> None:
    account = Answering()
    known = CommandContext(
        target=Target(
            whatsapp_message_id=WhatsAppMessageId("call-C1"), sender_jid=CHAT, call_id="C1"
        )
    )
    assert await asked(account, "reject_call", {"message_id": "m"}, known) == {}
    assert account.calls == [("ask", RejectCall(caller=CHAT, call_id="C1"))]


async def test_blocking_is_about_the_address_that_the_database_found() -> None:
    account = Answering()
    assert await asked(account, "unblock", {"lead_id": "l"}) == {"blocked": False}
    assert account.calls == [("ask", Block(person=CHAT, blocked=False))]


class FakeFiles:
    async def prepare(self, command: ClaimedCommand, account: Any, **options: Any) -> Media:
        assert (options["kind"], options["voice_note"]) == ("image", False)
        return Media(kind="image", file=FILE, mime_type="image/jpeg")


FILE: Any = None


async def test_captions_mentions_and_quotes_are_added_to_a_prepared_file() -> None:
    rpc = FakeRpc()
    rpc.context = CommandContext(
        target=Target(whatsapp_message_id=WhatsAppMessageId("Q"), sender_jid=CHAT, text="x" * 2000)
    )
    payload = {
        "to": "1",
        "type": "image",
        "media_url": "https://a.example",
        "caption": "oi",
        "view_once": True,
        "mentions": ["1@lid"],
        "quoted_message_id": "m",
    }
    composer = Composer(rpc, FakeFiles(), NoFiles())
    media = await composer.compose(FakeAccount(), command("send", payload))
    assert isinstance(media, Media)
    assert (media.caption, media.view_once, media.mentions) == ("oi", True, ["1@lid"])
    assert media.quote == Quote(id=WhatsAppMessageId("Q"), sender=CHAT, text="x" * 1000)


async def test_an_edit_of_a_file_takes_the_file_again_with_the_new_caption() -> None:
    asked_for: list[dict[str, Any]] = []

    class Files:
        async def prepare(self, command: ClaimedCommand, account: Any, **options: Any) -> Media:
            asked_for.append(options)
            return Media(kind="document", file=FILE, mime_type="text/csv")

    rpc = FakeRpc()
    known = Target(
        whatsapp_message_id=WhatsAppMessageId("T"),
        sender_jid=CHAT,
        from_me=True,
        tipo="document",
        file=TargetFile(path="w/a/x.csv", mime_type="text/csv", file_name="x.csv"),
    )
    rpc.context = CommandContext(target=known)
    edit = command("edit", {"message_id": "m", "text": "novo", "mentions": ["1@lid"]})
    order = await Composer(rpc, Files(), NoFiles()).compose(FakeAccount(), edit)
    assert isinstance(order, Edit)
    assert order.media is not None
    assert (order.media.caption, order.media.mentions) == ("novo", ["1@lid"])
    assert asked_for == [
        {
            "kind": "document",
            "storage_path": "w/a/x.csv",
            "mime_type": "text/csv",
            "file_name": "x.csv",
            "attach": False,
        }
    ]
    rpc.context = CommandContext(target=Target(**{**target_fields(known), "file": None}))
    with pytest.raises(CommandError, match="not in the bucket"):
        await Composer(rpc, Files(), NoFiles()).compose(FakeAccount(), edit)


async def test_cards_are_given_one_or_several() -> None:
    composer = Composer(FakeRpc(), NoFiles(), NoFiles())
    payload = {"to": "1", "type": "contact", "name": "Ana", "numbers": ["55"]}
    order = await composer.compose(FakeAccount(), command("send", payload))
    assert order == Contact(cards=[Card(name="Ana", numbers=["55"])])
    two = [{"name": "Ana", "numbers": ["55"]}, {"name": "Bia", "numbers": ["1", "2"]}]
    payload = {"to": "1", "type": "contact", "contacts": two, "forwarded": True}  # type: ignore[dict-item]
    order = await composer.compose(FakeAccount(), command("send", payload))
    cards = [Card(name="Ana", numbers=["55"]), Card(name="Bia", numbers=["1", "2"])]
    assert order == Contact(cards=cards, forwarded=True)


async def test_a_preview_is_asked_for_only_if_wanted() -> None:
    composer = Composer(FakeRpc(), NoFiles(), NoFiles())
    payload = {"to": "1", "type": "text", "text": "https://a.example"}
    order = await composer.compose(FakeAccount(), command("send", payload))
    assert order == Text(text="https://a.example")


async def test_what_was_deleted_meanwhile_is_not_changed() -> None:
    rpc = FakeRpc()
    target = Target(whatsapp_message_id=WhatsAppMessageId("T"), sender_jid=CHAT, from_me=True)
    rpc.context = CommandContext(target=target)
    edit = command("edit", {"message_id": "m", "text": "novo"})
    order = await Composer(rpc, NoFiles(), NoFiles()).compose(FakeAccount(), edit)
    assert order == Edit(target=WhatsAppMessageId("T"), text="novo")
    rpc.context = CommandContext(target=Target(**{**target_fields(target), "revoked": True}))
    with pytest.raises(CommandError, match="deleted meanwhile"):
        await Composer(rpc, NoFiles(), NoFiles()).compose(FakeAccount(), edit)


def target_fields(target: Target) -> dict[str, Any]:
    return {name: getattr(target, name) for name in target.__struct_fields__}

"""Each command ends with a result or a sentence, whatever happens in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands.executor import Executor
from bridge.commands.governor import MAX_ATTEMPTS
from bridge.commands.payloads import NotAvailable
from bridge.engine.host import PairByCode, PairByQr
from bridge.errors import CommandError, LeaseLost
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, WhatsAppMessageId
from bridge.orders import MarkRead, Media, Outgoing, Request, ShowTyping, Text
from bridge.states import AccountStatus
from bridge.supabase.answers import (
    Attempt,
    ClaimedCommand,
    CommandContext,
    Finish,
    HistoryState,
    Recorded,
    Unread,
)

pytestmark = pytest.mark.anyio
CHAT = Jid("5511900000001@s.whatsapp.net")
TYPES = [
    *("connect", "disconnect", "logout", "send", "edit", "revoke", "react", "mark_read", "typing"),
    *("check_numbers", "block", "unblock", "group_create", "group_update", "group_participants"),
    *("group_invite", "group_leave", "set_profile", "reject_call", "refresh_profile"),
]


class FakeAccount:
    """Does what it is told, or fails as it was told to."""

    own_jid: Jid | None = Jid("5511900000002@s.whatsapp.net")

    workspace_id = "w1"
    settings: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.calls: list[tuple[Any, ...]] = []

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fault is not None:
            raise self.fault

    async def connect(self, pairing: PairByQr | PairByCode) -> AccountStatus:
        self._called("connect", pairing)
        return AccountStatus.QR_REQUIRED

    async def disconnect(self) -> None:
        self._called("disconnect")

    async def logout(self) -> bool:
        self._called("logout")
        return True

    async def send(self, command: CommandId, to: Jid, order: Outgoing, attempt: Attempt) -> None:
        self._called("send", to, order, attempt.claim)

    async def ask(self, order: Request) -> Any:
        self._called("ask", order)


class FakeAccounts:
    def __init__(self, account: FakeAccount | None) -> None:
        self._account = account

    async def find(
        self, account_id: AccountId, epoch: LeaseEpoch, *, within_s: float
    ) -> FakeAccount | None:
        return self._account


class FakeRpc:
    """Keeps how commands ended."""

    def __init__(self) -> None:
        self.finished: list[dict[str, Any]] = []
        self.recorded: list[dict[str, Any]] = []
        self.unread: list[Unread] = []
        self.context = CommandContext()
        self.sync_status = "done"

    async def command_context(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId
    ) -> CommandContext:
        return self.context

    async def finish_command(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        command: CommandId,
        status: Finish,
        *,
        result: Any = None,
        error_code: str | None = None,
        error_message: str | None = None,
        retry_in_s: float | None = None,
        claim: int | None = None,
        counts: bool = True,
    ) -> bool:
        self.finished.append(
            {
                "status": status,
                "result": result,
                "code": error_code,
                "message": error_message,
                "retry_in_s": retry_in_s,
                "counts": counts,
            }
        )
        return True

    async def history_state(self, account: AccountId, epoch: LeaseEpoch, days: int) -> HistoryState:
        return HistoryState(sync_status=self.sync_status, sync_progress=50, days=14, messages=7)

    async def unread_messages(
        self, account: AccountId, epoch: LeaseEpoch, conversation: str, until: str | None
    ) -> list[Unread]:
        return self.unread

    async def record_events(
        self, account: AccountId, epoch: LeaseEpoch, events: Sequence[dict[str, Any]]
    ) -> Recorded:
        self.recorded += events
        return Recorded()


def claimed(type_: str, payload: dict[str, Any], *, attempts: int = 1) -> ClaimedCommand:
    return ClaimedCommand(
        id=CommandId("c1"),
        account_id=AccountId("a1"),
        lease_epoch=LeaseEpoch(1),
        type=type_,
        payload=payload,
        attempts=attempts,
        claims=attempts,
        chat_jid=CHAT,
    )


class NoFiles:
    """Where files would be prepared, pages looked at and pictures fetched."""

    async def prepare(self, *_: Any, **__: Any) -> Media:
        raise NotAvailable("no files here")

    async def of(self, text: str) -> None:
        raise NotAvailable("no pages here")

    def picture(self, account: Any, path: str) -> Any:
        raise NotAvailable("no pictures here")

    async def avatar(self, *_: Any) -> str:
        raise NotAvailable("no pictures here")


def executor(rpc: FakeRpc, account: FakeAccount | None) -> Executor:
    no = NoFiles()
    return Executor(
        rpc, FakeAccounts(account), files=no, previews=no, pictures=no.picture, avatars=no.avatar
    )


TEXT = {"to": "+5511900000001", "type": "text", "text": "oi"}


async def end_of(
    command: ClaimedCommand, account: FakeAccount | None = None, rpc: FakeRpc | None = None
) -> dict[str, Any]:
    rpc = rpc or FakeRpc()
    await executor(rpc, account or FakeAccount()).execute(command)
    assert len(rpc.finished) == 1
    return rpc.finished[0]


async def test_connect_by_qr_and_by_code() -> None:
    account = FakeAccount()
    ended = await end_of(claimed("connect", {"method": "qr"}), account)
    assert (ended["status"], ended["result"]) == ("done", {"status": "qr_required"})
    await end_of(claimed("connect", {"method": "code", "phone": "+55 11 90000-0001"}), account)
    assert account.calls == [
        ("connect", PairByQr()),
        ("connect", PairByCode("5511900000001")),
    ]


@pytest.mark.parametrize(
    ("days", "sync_status", "status", "code"),
    [
        (14, "done", "done", None),
        (15, "done", "failed", "history_not_available"),
        (1, "running", "pending", "history_running"),
    ],
)
async def test_history_is_what_the_phone_sent_when_it_was_linked(
    days: int, sync_status: str, status: str, code: str | None
) -> None:
    rpc = FakeRpc()
    rpc.sync_status = sync_status
    ended = await end_of(claimed("sync_history", {"days": days}), rpc=rpc)
    assert (ended["status"], ended["code"]) == (status, code)
    if code == "history_not_available":
        for word in ("only when it is linked", "history_days", "log out", "link the phone again"):
            assert word in ended["message"]


@pytest.mark.parametrize("type_", ["disconnect", "logout"])
async def test_lifecycle_commands_end_done(type_: str) -> None:
    assert (await end_of(claimed(type_, {})))["status"] == "done"


async def test_a_handed_over_send_is_finished_by_its_recorded_outcome_not_here() -> None:
    rpc, account = FakeRpc(), FakeAccount()
    await executor(rpc, account).execute(claimed("send", TEXT))
    assert account.calls == [("send", CHAT, Text(text="oi"), 1)]
    assert rpc.finished == []


async def test_mark_read_tells_whatsapp_and_then_the_database() -> None:
    rpc, account = FakeRpc(), FakeAccount()
    rpc.unread = [
        Unread(
            whatsapp_message_id=WhatsAppMessageId("M"),
            sender_jid=CHAT,
            sent_at=datetime.now(UTC),
            chat_jid=CHAT,
        )
    ]
    ended = await end_of(claimed("mark_read", {"conversation_id": "x"}), account, rpc)
    assert ended["result"] == {"marked": 1}
    assert account.calls == [
        ("ask", MarkRead(chat=CHAT, sender=CHAT, ids=[WhatsAppMessageId("M")], at=ANY))
    ]
    assert (rpc.recorded[0]["kind"], rpc.recorded[0]["type"]) == ("receipt", "read_self")


async def test_an_account_that_shows_typing_does_so_before_each_send_and_no_other_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.commands.governor.typing_s", lambda _order: 0.0)
    account = FakeAccount()
    account.settings = MappingProxyType({"simulate_typing": True})
    await executor(FakeRpc(), account).execute(claimed("send", TEXT))
    assert account.calls == [
        ("ask", ShowTyping(chat=CHAT, state="composing")),
        ("send", CHAT, Text(text="oi"), 1),
    ]
    account.calls.clear()
    silent = TEXT | {"simulate_typing": False}
    await executor(FakeRpc(), account).execute(claimed("send", silent))
    assert [call[0] for call in account.calls] == ["send"]


@pytest.mark.parametrize(
    ("fault", "attempts", "status", "code"),
    [
        (CommandError("No.", code="refused"), 1, "failed", "refused"),
        (CommandError("Later.", code="busy", retryable=True), 1, "pending", "busy"),
        (CommandError("Later.", code="busy", retryable=True), MAX_ATTEMPTS, "failed", "busy"),
        (CommandError("Wait.", code="not_connected", retryable=True), 99, "pending", None),
        (RuntimeError("secret text"), 1, "failed", "internal"),
    ],
)
async def test_faults_end_this_row_alone(
    fault: Exception, attempts: int, status: str, code: str | None
) -> None:
    ended = await end_of(claimed("send", TEXT, attempts=attempts), FakeAccount(fault))
    assert ended["status"] == status
    assert code is None or ended["code"] == code
    assert (ended["retry_in_s"] is None) == (status == "failed")
    assert ended["counts"] is (ended["code"] != "not_connected")


async def test_after_a_lost_lease_nothing_is_written() -> None:
    rpc = FakeRpc()
    account = FakeAccount(LeaseLost("gone"))
    await executor(rpc, account).execute(claimed("disconnect", {}))
    assert rpc.finished == []


async def test_a_command_of_an_account_that_is_not_here_goes_back() -> None:
    rpc = FakeRpc()
    await executor(rpc, None).execute(claimed("send", TEXT))
    assert (rpc.finished[0]["status"], rpc.finished[0]["code"]) == ("pending", "account_gone")


@pytest.mark.parametrize(
    ("type_", "payload", "code"),
    [
        ("dance", {}, "not_available"),
        ("send", {"type": "image"}, "bad_payload"),
        ("send", {"type": "image", "to": "1", "media_url": "https://a.b"}, "not_available"),
        ("send", TEXT | {"quoted_message_id": "x"}, "message_not_sent"),
        ("edit", {"message_id": "x", "text": "y"}, "message_not_sent"),
        ("reject_call", {"message_id": "x"}, "call_gone"),
        ("set_profile", {"picture_path": "x/y"}, "not_available"),
        ("send", TEXT | {"text": 7}, "bad_payload"),
        ("send", TEXT | {"surprise": 1}, "bad_payload"),
        ("connect", {}, "bad_payload"),
        ("connect", {"method": "code"}, "bad_payload"),
        ("connect", {"method": "telepathy"}, "not_available"),
        ("logout", {"now": True}, "bad_payload"),
    ],
)
async def test_what_this_version_cannot_do_is_told(
    type_: str, payload: dict[str, Any], code: str
) -> None:
    ended = await end_of(claimed(type_, payload))
    assert (ended["status"], ended["code"]) == ("failed", code)


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    type_=st.sampled_from(["connect", "disconnect", "logout", "send", "mark_read", "edit", "block"])
    | st.text(),
    payload=st.dictionaries(
        st.sampled_from(["method", "phone", "to", "type", "text", "conversation_id"]) | st.text(),
        NONSENSE,
        max_size=4,
    ),
)
def test_nonsense_fails_that_row_with_a_code(type_: str, payload: dict[str, Any]) -> None:
    import anyio

    rpc = FakeRpc()
    anyio.run(executor(rpc, FakeAccount()).execute, claimed(type_, payload))
    for finished in rpc.finished:
        assert finished["status"] == "done" or finished["code"] in ("bad_payload", "not_available")

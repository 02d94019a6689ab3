"""What was said before an account was linked, in rows: complete, once, also across a kill."""

from __future__ import annotations

import base64
import itertools
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import psycopg
import pytest

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Frontend, Row, until
from tests.fixtures.bridge import BridgeProcess, running_bridge
from tests.fixtures.simulator import Simulator, fresh_number
from tests.unit.engine.protobufs import e2e

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

_people = itertools.count(1)


@pytest.fixture
def bridge(shared_environment: dict[str, str], tmp_path: Path) -> Iterator[BridgeProcess]:
    """One a test: it is killed."""
    with running_bridge(shared_environment, tmp_path / "disk") as process:
        yield process


def past_chats(chats: int, messages: int, *, days: float = 10) -> list[Row]:
    """So many messages over so many chats, every tenth a group; nothing before so many days."""
    now = time.time()
    found = []
    number = 0
    for index in range(chats):
        count = messages // chats + (index < messages % chats)
        peer = f"55219{next(_people):08d}@s.whatsapp.net"
        is_group = index % 10 == 9
        said = []
        for place in range(count):
            number += 1
            from_me = place % 3 == 2
            said.append(
                {
                    "text": f"message {number} in chat {index}, something of usual length",
                    "id": f"3A{number:030X}",
                    "at": now - days * 86400 * (1 - (place + 1) / (count + 1)),
                    "from_me": from_me,
                    "sender": peer if is_group and not from_me else None,
                }
            )
        to = f"1203630{index:011d}@g.us" if is_group else peer
        name = f"Group {index}" if is_group else None
        found.append({"to": to, "name": name, "unread": index % 3, "messages": said})
    return found


async def paired(frontend: Frontend, simulator: Simulator, account: str, number: str) -> None:
    """Connect by QR and scan."""
    await frontend.insert_command(account, "connect", {"method": "qr"})
    row = await until(
        lambda: frontend.row("integration_accounts", id=account), lambda row: row["last_qr"]
    )
    await anyio.to_thread.run_sync(lambda: simulator.scan(number, row["last_qr"]))


async def synchronised(
    frontend: Frontend, account: str, seen: list[int], *, within_s: float = 60
) -> Row:
    """The account's row when its history is done; notes the progress that was shown."""

    async def look() -> Row:
        row = await frontend.row("integration_accounts", id=account)
        if row["sync_status"] == "running" and row["sync_progress"] not in seen[-1:]:
            seen.append(row["sync_progress"])
        return row

    return await until(look, lambda row: row["sync_status"] == "done", within_s=within_s)


def counted(stack: StackInfo, account: str) -> Row:
    """What is in the tables of an account."""
    query = """
        select (select count(*) from messages where integration_account_id = %(a)s) as messages,
          (
            select count(distinct (conversation_id, from_me, whatsapp_message_id))
            from messages where integration_account_id = %(a)s
          ) as different,
          (select count(*) from conversations where integration_account_id = %(a)s) as chats,
          (
            select count(distinct lead_id) from conversations
            where integration_account_id = %(a)s and lead_id is not null
          ) as leads,
          (
            select count(*) from messages where integration_account_id = %(a)s and seq > 0
          ) as numbered
    """
    with psycopg.connect(stack.database_url, row_factory=psycopg.rows.dict_row) as connection:
        row = connection.execute(query, {"a": account}).fetchone()
    assert row is not None
    return row


async def import_three_accounts(
    stack: StackInfo,
    bridge: BridgeProcess,
    frontend: Frontend,
    simulator: Simulator,
    *,
    chats: int,
    messages: int,
    chunks: int,
    within_s: float,
) -> dict[str, float]:
    """The whole story: imported, killed in the middle, delivered again, linked again."""
    accounts: dict[str, str] = {}
    history: dict[str, list[Row]] = {}
    for _ in range(3):
        number = fresh_number()
        simulator.add_phone(number, "Shop")
        account = await frontend.insert_account()
        accounts[account] = number
        history[account] = past_chats(chats, messages)
        simulator.history(number, history[account], chunks=chunks)
    expected = {"messages": messages, "different": messages, "chats": chats}
    expected |= {"numbered": messages, "leads": chats - chats // 10}
    progress: dict[str, list[int]] = {account: [] for account in accounts}
    for account, number in accounts.items():
        await paired(frontend, simulator, account, number)
        await frontend.until_account(account, "connected", within_s=within_s)

    # killed in the middle, engines and all
    first = account
    await until(
        lambda: anyio.to_thread.run_sync(counted, stack, first),
        lambda row: row["messages"] > messages // 10,
        within_s=within_s,
    )
    middle = await anyio.to_thread.run_sync(counted, stack, first)
    for engine in bridge.engines():
        engine.kill()
    bridge.stop(signal.SIGKILL)
    assert middle["messages"] < messages, "it was to be killed in the middle"
    rest = sum(messages - counted(stack, account)["messages"] for account in accounts)
    began = time.monotonic()
    bridge.start()
    for account in accounts:
        row = await synchronised(frontend, account, progress[account], within_s=within_s)
        assert (row["sync_progress"], row["sync_error"]) == (100, None)
        assert progress[account] == sorted(progress[account]), "progress is monotonic"
    took_s = time.monotonic() - began
    for account in accounts:
        assert await anyio.to_thread.run_sync(counted, stack, account) == expected

    # the same delivered again to the linked device: nothing changes
    number = accounts[first]
    again = history[first]
    marker = {"text": "the last one", "id": "3AEEEE", "at": time.time(), "from_me": False}
    again[0]["messages"].append(marker)
    await anyio.to_thread.run_sync(
        lambda: simulator.history(number, again, now=True, chunks=chunks)
    )
    more = {
        key: value + (key in ("messages", "different", "numbered"))
        for key, value in expected.items()
    }
    await until(
        lambda: anyio.to_thread.run_sync(counted, stack, first),
        lambda row: row["messages"] > messages,
        within_s=within_s,
    )
    # linked again: the whole history once more
    command = await frontend.insert_command(first, "logout", {})
    assert (await frontend.until_command(command))["status"] == "done"
    await paired(frontend, simulator, first, number)
    await until(
        lambda: frontend.row("integration_accounts", id=first),
        lambda row: row["sync_status"] == "running",
    )
    second: list[int] = []
    await synchronised(frontend, first, second, within_s=within_s)
    assert second == sorted(second)
    assert await anyio.to_thread.run_sync(counted, stack, first) == more
    return {"rows": rest, "seconds": took_s}


async def test_three_accounts_import_completely_across_a_kill_and_twice(
    stack: StackInfo, bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    await import_three_accounts(
        stack, bridge, frontend, simulator, chats=30, messages=2000, chunks=3, within_s=90
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_three_accounts_with_20000_messages_over_300_chats(
    stack: StackInfo, bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    figures = await import_three_accounts(
        stack, bridge, frontend, simulator, chats=300, messages=20_000, chunks=6, within_s=240
    )
    print(f"{figures['rows'] / figures['seconds']:.0f} rows/s after the restart", figures)


def raw(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


async def test_every_kind_of_the_past_is_the_row_that_a_live_one_would_be(
    bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    number, maria = fresh_number(), fresh_number()
    simulator.add_phone(number, "Shop")
    simulator.add_phone(maria, "Maria")
    friend = f"55219{next(_people):08d}@s.whatsapp.net"
    image = e2e.ImageMessage(
        mimetype="image/jpeg",
        caption="foto",
        directPath="/v/gone",
        mediaKey=b"k" * 32,
        fileEncSHA256=b"e" * 32,
        fileSHA256=b"s" * 32,
        fileLength=9,
    )
    place = e2e.LocationMessage(degreesLatitude=-23.5, degreesLongitude=-46.6, name="Loja")
    quote = e2e.ExtendedTextMessage(
        text="respondo", contextInfo=e2e.ContextInfo(stanzaID="T1", participant=friend)
    )
    key = {"from_me": False, "sender": None}
    now = time.time()
    poll = e2e.PollCreationMessage(
        name="Quando?",
        options=[e2e.PollCreationMessage.Option(optionName=name) for name in ("hoje", "nunca")],
        selectableOptionsCount=1,
    )
    file: dict[str, Any] = {"directPath": "/v/gone", "mediaKey": b"k" * 32}
    file["fileSHA256"] = b"s" * 32
    file |= {"fileEncSHA256": b"e" * 32, "fileLength": 9}
    once = e2e.FutureProofMessage(message=e2e.Message(imageMessage=image))
    buttons = e2e.ButtonsMessage(contentText="Qual?", headerType=1)
    buttons.buttons.add(buttonID="1", type=1).buttonText.displayText = "Este"
    more = {
        "V1": e2e.Message(videoMessage=e2e.VideoMessage(mimetype="video/mp4", **file)),
        "A1": e2e.Message(audioMessage=e2e.AudioMessage(mimetype="audio/ogg", PTT=True, **file)),
        "D1": e2e.Message(documentMessage=e2e.DocumentMessage(fileName="a.pdf", **file)),
        "S1": e2e.Message(stickerMessage=e2e.StickerMessage(mimetype="image/webp", **file)),
        "C1": e2e.Message(contactMessage=e2e.ContactMessage(displayName="Bia", vcard="")),
        "P1": e2e.Message(pollCreationMessageV3=poll),
        "VO1": e2e.Message(viewOnceMessageV2=once),
        "B1": e2e.Message(buttonsMessage=buttons),
        "U1": e2e.Message(encReactionMessage=e2e.EncReactionMessage(encIV=b"1")),
    }
    with_maria = {
        "to": maria,
        "unread": 2,
        "archived": True,
        "pinned": int(now),
        "muted_until": int(now) + 86400,
        "messages": [
            key
            | {
                "id": "T1",
                "at": now - 60,
                "text": "Olá",
                "reactions": [{"emoji": "👍", "from_me": True}],
            },
            key | {"id": "I1", "at": now - 50, "raw": raw(e2e.Message(imageMessage=image))},
            key | {"id": "L1", "at": now - 40, "raw": raw(e2e.Message(locationMessage=place))},
            key | {"id": "Q1", "at": now - 30, "raw": raw(e2e.Message(extendedTextMessage=quote))},
            key | {"id": "R1", "at": now - 20, "revoked": True},
            {"id": "O1", "at": now - 10, "text": "minha", "from_me": True, "status": 3},
            *(
                key
                | {"id": id_, "at": now - 45, "raw": raw(message)}
                | ({"votes": [{"options": ["hoje"]}]} if id_ == "P1" else {})
                for id_, message in more.items()
            ),
            key | {"id": "OLD", "at": now - 30 * 86400, "text": "too old"},
        ],
    }
    group = {
        "to": "120363999@g.us",
        "name": "Obra",
        "messages": [
            {"id": "G1", "at": now - 5, "text": "na obra", "sender": friend},
            {"id": "G2", "at": now - 4, "text": "ok", "sender": maria},
        ],
    }
    old = {"to": friend, "messages": [key | {"id": "X", "at": now - 40 * 86400, "text": "old"}]}
    simulator.history(number, [with_maria, group, old])
    account = await frontend.insert_account()
    await paired(frontend, simulator, account, number)
    row = await synchronised(frontend, account, [])
    assert (row["sync_progress"], row["sync_error"]) == (100, None)

    rows = {
        each["whatsapp_message_id"]: each
        for each in await frontend.rows("messages", integration_account_id=account)
    }
    assert {id_: each["tipo"] for id_, each in rows.items()} == {
        "T1": "text",
        "I1": "image",
        "L1": "location",
        "Q1": "text",
        "R1": "unsupported",
        "O1": "text",
        "G1": "text",
        "G2": "text",
        "V1": "video",
        "A1": "audio",
        "D1": "document",
        "S1": "sticker",
        "C1": "contact",
        "P1": "poll",
        "VO1": "image",
        "B1": "text",
        "U1": "unsupported",
    }
    assert rows["A1"]["payload"]["voice_note"] is True
    assert rows["D1"]["conteudo"] == "a.pdf"
    assert rows["C1"]["conteudo"] == "Bia"
    assert rows["P1"]["payload"]["options"] == [
        {"name": "hoje", "votes": 1},
        {"name": "nunca", "votes": 0},
    ]
    assert rows["VO1"]["payload"]["view_once"] is True
    assert "Este" in rows["B1"]["conteudo"]
    assert rows["I1"]["conteudo"] == "foto"
    assert rows["L1"]["payload"]["latitude"] == -23.5
    assert rows["Q1"]["quoted_message_id"] == "T1"
    assert rows["R1"]["revoked_at"] is not None
    assert (rows["O1"]["from_me"], rows["O1"]["status"]) == (True, "delivered")
    assert rows["G1"]["sender_id"] == friend
    assert rows["G2"]["sender_nome"] == "Maria"
    (reaction,) = await frontend.rows("message_reactions", message_id=rows["T1"]["id"])
    assert reaction["emoji"] == "👍"
    files = await until(
        lambda: frontend.rows("attachments"),
        lambda files: all(file["status"] != "pending" for file in files),
    )
    of = {file["message_id"]: file for file in files}
    assert set(of) == {rows[id_]["id"] for id_ in ("I1", "V1", "A1", "D1", "S1", "VO1")}
    assert {file["status"] for file in files} == {"expired"}
    assert of[rows["I1"]["id"]]["mime_type"] == "image/jpeg"

    chats = {
        each["kind"]: each
        for each in await frontend.rows("conversations", integration_account_id=account)
    }
    direct = chats["direct"]
    assert (direct["nome"], direct["nao_lidas"], direct["status"]) == ("Maria", 2, "open")
    assert (direct["archived"], direct["pinned"]) == (True, True)
    assert direct["muted_until"] is not None
    assert direct["ultima_mensagem"] == "minha"
    assert (chats["group"]["nome"], chats["group"]["status"]) == ("Obra", "resolved")
    assert len(await frontend.rows("leads", workspace_id=frontend.tenant.workspace_id)) == 2

    asked = await frontend.insert_command(account, "sync_history", {"days": 14})
    assert (await frontend.until_command(asked))["result"] == {
        "days": 14,
        "conversations": 2,
        "messages": len(rows),
        "incomplete_conversations": 0,
    }
    asked = await frontend.insert_command(account, "sync_history", {"days": 60})
    refused = await frontend.until_command(asked)
    assert (refused["status"], refused["error_code"]) == ("failed", "history_not_available")


async def test_a_live_message_does_not_wait_for_the_import_which_survives_its_engine(
    stack: StackInfo, bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    number, maria = fresh_number(), fresh_number()
    simulator.add_phone(number, "Shop")
    simulator.add_phone(maria, "Maria")
    simulator.history(number, past_chats(50, 6000))
    account = await frontend.insert_account()
    await paired(frontend, simulator, account, number)
    await until(
        lambda: anyio.to_thread.run_sync(counted, stack, account), lambda row: row["messages"] > 0
    )
    simulator.send_text(maria, to=number, text="agora")
    live = await frontend.until_message(integration_account_id=account, conteudo="agora")
    during = await anyio.to_thread.run_sync(counted, stack, account)
    assert during["messages"] < 6000, "the import was to be under way"
    for engine in bridge.engines():
        engine.kill()
    seen: list[int] = []
    row = await synchronised(frontend, account, seen)
    assert (row["sync_progress"], row["sync_error"]) == (100, None)
    assert seen == sorted(seen)
    after = await anyio.to_thread.run_sync(counted, stack, account)
    assert after["messages"] == after["different"] == 6001
    assert live["seq"] < 6000


async def test_without_days_there_is_no_history(
    bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    number, maria = fresh_number(), fresh_number()
    simulator.add_phone(number, "Shop")
    simulator.add_phone(maria, "Maria")
    simulator.history(number, past_chats(3, 30))
    account = await frontend.insert_account(history_days=0)
    await paired(frontend, simulator, account, number)
    await frontend.until_account(account, "connected")
    simulator.send_text(maria, to=number, text="agora")
    await frontend.until_message(integration_account_id=account, conteudo="agora")
    (message,) = await frontend.rows("messages", integration_account_id=account)
    assert message["conteudo"] == "agora"
    assert (await frontend.row("integration_accounts", id=account))["sync_status"] == "idle"


def memory_mb(process: psutil.Process) -> float:
    """Private memory now; 0 if it is gone."""
    with suppress(psutil.Error):
        return float(process.memory_info().rss) / 1e6
    return 0.0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_large_history_costs_the_bridge_little_memory(
    stack: StackInfo, bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    """60 MB in one piece; Go holds it several times, the Python around it only parts."""
    number = fresh_number()
    simulator.add_phone(number, "Shop")
    chats = past_chats(60, 6000)
    for chat in chats:
        for said in chat["messages"]:
            said["text"] += secrets.token_hex(5000)
    simulator.history(number, chats)
    account = await frontend.insert_account()
    await until(lambda: _engines(bridge), bool)
    assert bridge.process is not None
    parent = psutil.Process(bridge.process.pid)
    before = memory_mb(parent), max(map(memory_mb, bridge.engines()))
    most = [0.0, 0.0]
    await paired(frontend, simulator, account, number)

    async def look() -> Row:
        most[0] = max(most[0], memory_mb(parent))
        most[1] = max(most[1], *map(memory_mb, bridge.engines()), 0.0)
        return await frontend.row("integration_accounts", id=account)

    await until(look, lambda row: row["sync_status"] == "done", within_s=200)
    assert counted(stack, account)["messages"] == 6000
    print(f"parent {before[0]:.0f} -> {most[0]:.0f} MB, engine {before[1]:.0f} -> {most[1]:.0f} MB")
    assert most[0] - before[0] < 100


async def _engines(bridge: BridgeProcess) -> list[psutil.Process]:
    return bridge.engines()


async def test_a_history_that_was_announced_and_not_fetched_is_fetched_after_a_restart(
    stack: StackInfo, bridge: BridgeProcess, frontend: Frontend, simulator: Simulator
) -> None:
    number = fresh_number()
    simulator.add_phone(number, "Shop")
    simulator.history(number, past_chats(3, 30), withheld=True)
    account = await frontend.insert_account()
    await paired(frontend, simulator, account, number)
    await frontend.until_account(account, "connected")
    announced = bridge.disk / "state" / "accounts" / account / "history" / "announced"
    await until(lambda: _files(announced), lambda files: len(files) == 1)
    for engine in bridge.engines():
        engine.kill()
    bridge.stop(signal.SIGKILL)
    assert counted(stack, account)["messages"] == 0

    simulator.history(number, [])
    bridge.start()
    await until(
        lambda: anyio.to_thread.run_sync(counted, stack, account),
        lambda row: row["messages"] == 30,
    )
    await synchronised(frontend, account, [])
    assert await _files(announced) == []


async def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.sealed"))

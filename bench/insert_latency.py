"""How long a frontend's `send` waits while much is being recorded for its workspace.

PostgreSQL alone, with the migrations: what is measured are locks, not the way there. One account,
and then `IMPORTERS` accounts of one workspace at once, import `MESSAGES` messages each in calls as
large as the bridge's, or replay `REPLAYED` live messages each; meanwhile somebody inserts a `send`
every few milliseconds, from an account that does so, from another one of the workspace, and from
another workspace.

* idle: the same insert with nobody else at work.
* same_account, same_workspace, other_workspace: while that goes on.
* call_ms: how long one call takes; took_s: all of them.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio.to_thread
from psycopg.types.json import Jsonb

from bench.main_job import summary
from bridge.accounts.history import CALL_MESSAGES, LEAST_CALL_MESSAGES
from bridge.engine.blob import PART_MESSAGES
from bridge.ingest import BATCH_EVENTS, LEAST_BATCH_EVENTS
from bridge.sandbox import database
from bridge.supabase.batches import BatchSize
from tests.database.project import (
    MIGRATIONS,
    Bridge,
    Caller,
    Connection,
    Row,
    Team,
    World,
    message,
    person,
    running_project,
)

MESSAGES = 20_000
REPLAYED = 4_000
IMPORTERS = 4
PAUSE_S = 0.02
CHAT_MESSAGES = 250
CUSTOMER = "+5511987654321"

Work = Callable[[Bridge, uuid.UUID, list[float]], None]


def parts() -> Iterator[Row]:
    """A chat's part each; every third chat is a group of ten people."""
    numbers = itertools.count(1)
    left = MESSAGES
    for chat in itertools.count(1):
        if not left:
            return
        count = min(CHAT_MESSAGES, left)
        left -= count
        people = [
            person(str(5521900000000 + chat * 100 + who), str(chat * 100 + who), f"Person {who}")
            for who in range(10 if chat % 3 == 0 else 1)
        ]
        group = f"{120363000000000000 + chat}@g.us" if chat % 3 == 0 else None
        for start in range(0, count, PART_MESSAGES):
            here = min(PART_MESSAGES, count - start)
            yield _part(group, people, [next(numbers) for _ in range(here)])


def _part(group: str | None, people: list[Row], numbers: list[int]) -> Row:
    at = "2026-01-02T{:02}:{:02}:{:02}Z"
    messages = [
        message(
            f"3EB0{number:016X}",
            people[number % len(people)],
            group=group,
            text=f"Message {number}, about as long as people write: can you send it on Monday?",
            at=at.format(number // 3600 % 24, number // 60 % 60, number % 60),
        )
        | {"status": "delivered", "revoked": False}
        for number in numbers
    ]
    return {
        "chat": messages[0]["chat"],
        "peer": None if group else people[0],
        "name": None,
        "unread": 0,
        "archived": False,
        "pinned": False,
        "muted_until": None,
        "more_on_phone": None,
        "messages": messages,
    }


def _import(bridge: Bridge, account: uuid.UUID, calls: list[float]) -> None:
    """Record a history."""
    size = BatchSize(LEAST_CALL_MESSAGES, CALL_MESSAGES)
    left = parts()
    while chats := list(itertools.islice(left, size.now // PART_MESSAGES)):
        told = {"progress": 50, "people": [], "chats": chats, "events": []}
        count = sum(len(chat["messages"]) for chat in chats)
        _call(bridge, "bridge_record_history", account, told, count, size, calls)


def _replay(bridge: Bridge, account: uuid.UUID, calls: list[float]) -> None:
    """Record as many live messages as wait after a long absence."""
    size = BatchSize(LEAST_BATCH_EVENTS, BATCH_EVENTS)
    messages = (message for part in parts() for message in part["messages"])
    left = itertools.islice(messages, REPLAYED)
    while events := list(itertools.islice(left, size.now)):
        _call(bridge, "bridge_record_events", account, events, len(events), size, calls)


def _call(
    bridge: Bridge,
    function: str,
    account: uuid.UUID,
    told: object,
    count: int,
    size: BatchSize,
    calls: list[float],
) -> None:
    began = time.perf_counter()
    answer = bridge.fenced(function, account, Jsonb(told))
    calls.append(time.perf_counter() - began)
    size.took(count, float(answer["held_s"]))


def _insert(caller: Caller, account: uuid.UUID) -> float:
    began = time.perf_counter()
    caller.run(
        "insert into commands (integration_account_id, type, payload)"
        " values (%s, 'send', jsonb_build_object('to', %s::text, 'type', 'text', 'text', 'Hi'))",
        account,
        CUSTOMER,
    )
    return time.perf_counter() - began


def _insert_until(
    caller: Caller, account: uuid.UUID, done: threading.Event, found: list[float]
) -> None:
    while not done.wait(PAUSE_S):
        found.append(_insert(caller, account))


def _measure(world: World, samples: int, work: Work, importers: int, expected: int) -> Row:
    bridge = world.add_bridge()
    team, strangers = world.add_team(), world.add_team()
    importing = [world.add_running_account(team, bridge) for _ in range(importers)]
    beside = world.add_running_account(team, bridge)
    elsewhere = world.add_running_account(strangers, bridge)
    bridge.hold(lease_s=3600)
    world.owner.execute("update whatsapp_private.limits set pending_commands_per_account = 1000000")
    who: list[tuple[str, Team, uuid.UUID]] = [
        ("same_account", team, importing[0]),
        ("same_workspace", team, beside),
        ("other_workspace", strangers, elsewhere),
    ]
    with ExitStack() as connections:

        def connection() -> Connection:
            return connections.enter_context(world.project.connect_api())

        agents = {name: (of.agent.on(connection()), account) for name, of, account in who}
        for agent in agents.values():
            _insert(*agent)
        idle = [_insert(*agents["same_account"]) for _ in range(samples)]
        done, calls = threading.Event(), list[float]()
        waits: dict[str, list[float]] = {name: [] for name in agents}
        inserts = [
            threading.Thread(target=_insert_until, args=(*agents[name], done, waits[name]))
            for name in agents
        ]
        imports = [
            threading.Thread(target=work, args=(bridge.on(connection()), account, calls))
            for account in importing
        ]
        began = time.perf_counter()
        for thread in (*inserts, *imports):
            thread.start()
        for thread in imports:
            thread.join()
        took = time.perf_counter() - began
        done.set()
        for thread in inserts:
            thread.join()
    recorded = world.one("select count(*) as n from messages where command_id is null")["n"]
    if recorded != importers * expected:
        raise RuntimeError(f"{recorded} messages were recorded")
    world.empty()
    return {
        "took_s": round(took, 1),
        "call_ms": _with_most(calls),
        "idle_ms": _with_most(idle),
        **{f"{name}_ms": _with_most(found) for name, found in waits.items()},
    }


def _with_most(samples: list[float]) -> dict[str, float]:
    return summary(samples) | {"max": round(max(samples) * 1000, 1)}


def _run(samples: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="wabridge-bench-") as directory:
        print("starting PostgreSQL", file=sys.stderr, flush=True)
        with running_project(Path(directory)) as project:
            database.apply_migrations(project.owner_url, MIGRATIONS)
            with project.connect_owner() as owner, project.connect_api() as api:
                world = World(project, owner, api)
                return {
                    "bench": "insert_latency",
                    "messages": MESSAGES,
                    **{
                        f"{count}_{name}": _measure(world, samples, work, count, expected)
                        for name, work, expected in (
                            ("imports", _import, MESSAGES),
                            ("replays", _replay, REPLAYED),
                        )
                        for count in (1, IMPORTERS)
                    },
                }


async def run(*, samples: int, links: int) -> dict[str, Any]:
    return await anyio.to_thread.run_sync(_run, samples)

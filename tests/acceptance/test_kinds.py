"""The table of `docs/kinds.md`: every cell that says yes is a test here, or the page lies.

A cell says what goes for one kind in one column. A tick is a promise in both directions where the
column has two (`edit`, `revoke`, `quote`); "✓ in" and "✓ out" promise one. The tests below are made
out of the cells, so a tick without a test fails, and so does a kind that nobody knows here.

One account of one bridge is linked for all of them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.sandbox.stack import StackInfo
from tests.acceptance.checks_of_changes import CHANNEL, SPECIAL
from tests.acceptance.checks_of_kinds import CHECKS
from tests.acceptance.conftest import Linked, link, signed_in
from tests.acceptance.kinds_of_messages import KINDS
from tests.acceptance.shop import row_of, tell
from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.simulator import Simulator
from tests.fixtures.stack import new_tenant

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "kinds.md"
COLUMNS = ("in", "out", "edit", "revoke", "quote", "history")
BOTH_WAYS = ("edit", "revoke", "quote")


@dataclass(frozen=True)
class Promise:
    """What one cell of the table says, in one direction."""

    kind: str
    column: str
    way: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.column}-{self.way}".replace(" ", "_")


def table() -> list[tuple[str, dict[str, str]]]:
    """The lines of the table: kind, and its cells without remarks."""
    text = PAGE.read_text().split("## What goes where")[1].split("## Files")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header == ["kind", "row (`tipo`)", *COLUMNS]
    found = []
    for line in lines[2:]:
        name, _, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == len(COLUMNS), line
        found.append((name, dict(zip(COLUMNS, cells, strict=True))))
    return found


def promises() -> list[Promise]:
    """Every yes."""
    found = []
    for name, cells in table():
        for column, cell in cells.items():
            said = re.sub(r"\s*\d+(, \d+)*$", "", cell)  # remarks
            if "✓" not in said:
                assert said in ("", "—"), f"{name}, {column}: {cell!r} says neither yes nor no"
                assert said or re.search(r"\d", cell), f"{name}, {column}: no, and why?"
                continue
            assert said in ("✓", "✓ in", "✓ out"), f"{name}, {column}: {cell!r}"
            ways = [said.removeprefix("✓").strip()]
            if not ways[0]:
                ways = ["in", "out"] if column in BOTH_WAYS else [column]
            found += [Promise(name, column, "in" if w == "history" else w) for w in ways]
    return found


def test_every_remark_of_the_table_is_there() -> None:
    text = PAGE.read_text()
    cells = " ".join(cell for _, row in table() for cell in row.values())
    used = set(re.findall(r"\d+", cells))
    written = set(re.findall(r"(?m)^(\d+)\. ", text.split("## Files")[0]))
    assert used == written


# ------------------------------------------------------------------------------ one account


@pytest.fixture(scope="module")
async def shop(
    stack: StackInfo, bridge: BridgeProcess, simulator: Simulator
) -> AsyncIterator[Linked]:
    """The account of all tests here."""
    async with signed_in(stack, new_tenant(stack)) as frontend:
        settings = {"receive_status_updates": True, "receive_newsletters": True}
        linked = await link(frontend, simulator, within_s=90)
        accounts = frontend.client.table("integration_accounts")
        await accounts.update({"settings": settings}).eq("id", linked.account).execute()
        yield linked


async def test_posts_come_only_if_the_account_wants_them(
    bridge: BridgeProcess, stack: StackInfo, simulator: Simulator
) -> None:
    async with signed_in(stack, new_tenant(stack)) as frontend:
        linked = await link(frontend, simulator, within_s=90)
        posts = [
            await tell(
                linked, {"type": "text", "text": "não", "to": to, "viewers": [linked.number]}
            )
            for to in ("status@broadcast", CHANNEL)
        ]
        await row_of(linked, await tell(linked, {"type": "text", "text": "depois"}))
        rows = await frontend.rows("messages", integration_account_id=linked.account)
        assert not {row["whatsapp_message_id"] for row in rows} & set(posts)


# ------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("promise", promises(), ids=str)
async def test_what_the_table_says_is_so(shop: Linked, promise: Promise, tmp_path: Path) -> None:
    special = SPECIAL.get((promise.kind, promise.column, promise.way))
    if special is not None:
        await special(shop, tmp_path)
        return
    kind = KINDS.get(promise.kind)
    assert kind is not None, f"docs/kinds.md promises {promise}, and nothing here tests it"
    await CHECKS[promise.column, promise.way](shop, kind, tmp_path)


def test_everything_that_is_tested_is_in_the_table() -> None:
    said = set(promises())
    for kind, column, way in SPECIAL:
        assert Promise(kind, column, way) in said, f"{kind}, {column} {way} is tested and not told"
    assert set(KINDS) <= {name for name, _ in table()}

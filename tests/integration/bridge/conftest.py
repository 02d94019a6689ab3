"""`wabridge run` as a child beside the stack and the simulator; rows through plain HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.sandbox.stack import StackInfo
from tests.fixtures.bridge import BridgeProcess, running_bridge
from tests.fixtures.simulator import Simulator, fresh_number
from tests.fixtures.stack import eventually, fresh_stack, insert, new_tenant, service_client

Row = dict[str, Any]
FINAL = ("done", "failed", "unknown", "cancelled", "expired")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    """A project of each module's own."""
    with fresh_stack(tmp_path_factory) as info:
        yield info


@pytest.fixture
def service(
    stack: StackInfo, shared_environment: dict[str, str], tmp_path: Path
) -> Iterator[BridgeProcess]:
    """A bridge of each test's own, with the secret key of the new form."""
    environment = {**shared_environment, "SUPABASE_SERVICE_ROLE_KEY": stack.secret_key}
    with running_bridge(environment, tmp_path / "disk") as running:
        try:
            yield running
        finally:
            stack.faults.heal()  # or it could not stop


@dataclass
class Shop:
    """An account of a fresh workspace, its phone, and a customer."""

    http: httpx.Client
    simulator: Simulator
    workspace: str
    account: str
    number: str = field(default_factory=fresh_number)
    customer: str = field(default_factory=fresh_number)

    def rows(self, table: str, **equals: str) -> list[Row]:
        filters = {column: f"eq.{value}" for column, value in equals.items()}
        answer = self.http.get(f"/rest/v1/{table}", params=filters)
        if answer.is_server_error or answer.status_code == 429:
            return []  # a fault of the test is on
        assert answer.is_success, answer.text
        rows: list[Row] = answer.json()
        return rows

    def face(self) -> Row:
        rows = self.rows("integration_accounts", id=self.account)
        return rows[0] if rows else {"status": None, "last_qr": None}

    def until_status(self, status: str, *, deadline_s: float = 40) -> Row:
        return eventually(
            lambda: face if (face := self.face())["status"] == status else None,
            deadline_s=deadline_s,
        )

    def command(self, type_: str, payload: Row) -> str:
        row = {"integration_account_id": self.account, "type": type_, "payload": payload}
        return str(insert(self.http, "commands", row)["id"])

    def send(self, text: str) -> str:
        return self.command("send", {"to": f"+{self.customer}", "type": "text", "text": text})

    def ended(self, command: str, *, deadline_s: float = 40) -> Row:
        return eventually(
            lambda: next(
                (row for row in self.rows("commands", id=command) if row["status"] in FINAL), None
            ),
            deadline_s=deadline_s,
        )

    def set(self, **settings: Any) -> None:
        path = f"/rest/v1/integration_accounts?id=eq.{self.account}"
        self.http.patch(path, json={"settings": settings}).raise_for_status()

    def link(self) -> None:
        self.command("connect", {"method": "qr"})
        qr = eventually(lambda: self.face()["last_qr"], deadline_s=60)
        self.simulator.scan(self.number, qr)
        self.until_status("connected")

    def receive(self, text: str) -> None:
        self.simulator.send_text(self.customer, to=self.number, text=text)

    def texts(self) -> list[str]:
        rows = self.rows("messages", integration_account_id=self.account)
        return [row["conteudo"] for row in sorted(rows, key=lambda row: row["seq"])]


@pytest.fixture
def shop(stack: StackInfo, simulator: Simulator) -> Iterator[Shop]:
    workspace = new_tenant(stack).workspace_id
    with service_client(stack) as http:
        row = {
            "workspace_id": workspace,
            "nome": "Support",
            "settings": {"messages_per_minute": 600},  # these tests are about other things
        }
        account = insert(http, "integration_accounts", row)
        made = Shop(http, simulator, workspace, account["id"])
        simulator.add_phone(made.number, "Shop")
        simulator.add_phone(made.customer, "Maria")
        yield made

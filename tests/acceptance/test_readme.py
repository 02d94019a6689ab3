"""The README's own snippet, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import anyio
import pytest

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Frontend
from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.simulator import Simulator, fresh_number

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.anyio


def run_until_delivered(
    script: Path, environment: dict[str, str], simulator: Simulator, shop: str
) -> list[str]:
    """What it printed, up to the receipt; the shop's phone scans the QR that is printed."""
    printed: list[str] = []
    command = ["node", str(script)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                printed.append(line.rstrip())
                if line.startswith("qr ") and not any(p.startswith("qr ") for p in printed[:-1]):
                    simulator.scan(shop, line.removeprefix("qr ").strip())
                if line.startswith("message") and "delivered" in line:
                    break
        finally:
            process.kill()
    return printed


async def test_the_javascript_snippet_runs_as_it_stands(
    bridge: BridgeProcess,
    frontend: Frontend,
    stack: StackInfo,
    simulator: Simulator,
    tmp_path: Path,
) -> None:
    snippet = re.search(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    script = tmp_path / "inbox.mjs"
    script.write_text(snippet[1])
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    shop, maria = fresh_number(), fresh_number()
    simulator.add_phone(shop, "Shop")
    simulator.add_phone(maria, "Maria")
    environment = {
        "PATH": os.environ["PATH"],
        "SUPABASE_URL": stack.url,
        "SUPABASE_ANON_KEY": stack.anon_key,
        "EMAIL": frontend.tenant.email,
        "PASSWORD": frontend.tenant.password,
        "TO": f"+{maria}",
    }
    printed = await anyio.to_thread.run_sync(
        lambda: run_until_delivered(script, environment, simulator, shop), abandon_on_cancel=True
    )
    assert "account connected" in printed
    assert printed[-1] == "message → Olá do Supabase! delivered"
    simulator.wait_for_text(maria, "Olá do Supabase!")

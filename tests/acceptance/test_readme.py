"""The README's own snippet, run as it stands there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import BridgeProcess, Frontend
from tests.fixtures.simulator import Simulator, fresh_number

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.anyio


async def test_the_javascript_snippet_runs_as_it_stands(
    bridge: BridgeProcess,
    frontend: Frontend,
    stack: StackInfo,
    simulator: Simulator,
    tmp_path: Path,
) -> None:
    readme = (ROOT / "README.md").read_text()
    snippet = re.search(r"```js\n(.*?)```", readme, re.DOTALL)
    assert snippet is not None
    script = tmp_path / "inbox.mjs"
    script.write_text(snippet[1])
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    shop, maria = fresh_number(), fresh_number()
    simulator.add_phone(shop, "Shop")
    simulator.add_phone(maria, "Maria")
    process = subprocess.Popen(
        ["node", str(script)],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "SUPABASE_URL": stack.url,
            "SUPABASE_ANON_KEY": stack.anon_key,
            "EMAIL": frontend.tenant.email,
            "PASSWORD": frontend.tenant.password,
            "TO": f"+{maria}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed: list[str] = []
        scanned = False
        for line in process.stdout:
            printed.append(line.rstrip())
            if line.startswith("qr ") and not scanned:
                scanned = True
                simulator.scan(shop, line.split(" ", 1)[1].strip())
            if "message" in line and "delivered" in line:
                break
        assert scanned, printed
        assert any(line == "account connected" for line in printed), printed
        simulator.wait_for_text(maria, "Olá do Supabase!")
    finally:
        process.kill()
        process.wait(5)

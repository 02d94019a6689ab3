"""supabase-js against the project: one script, one test a fact."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.stack.conftest import Project

SCRIPT = Path(__file__).with_name("contract.mjs")
FACTS = 20


def test_supabase_js_finds_what_it_expects(project: Project):
    done = subprocess.run(
        ["node", str(SCRIPT)],
        env={
            "PATH": os.environ["PATH"],
            "SUPABASE_URL": project.url,
            "ANON_KEY": project.anon_key,
            "SERVICE_KEY": project.service_key,
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wrong = [fact for fact in facts if not fact["ok"]]
    assert wrong == [], done.stderr
    assert len(facts) == FACTS


pytestmark = pytest.mark.timeout(240)

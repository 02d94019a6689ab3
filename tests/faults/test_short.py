"""The short form of the fault suite; `make test-faults` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.injector import FAULTS
from tests.faults.plan import schedule
from tests.faults.report import problems, table
from tests.faults.run import run_plan
from tests.faults.world import Size, running_world

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]


async def test_faults_lose_double_and_misplace_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().getrandbits(31)
    plan = schedule([fault for fault in FAULTS if fault.short], seed=seed, rounds=1)
    async with running_world(tmp_path, Size(accounts=2, lease_s=4)) as world:
        outcomes = await run_plan(world, plan, lambda _: None)
    with capsys.disabled():
        print(f"\n{table(outcomes)}\nseed {seed}: python -m tests.faults --short --seed {seed}")
    assert problems(outcomes) == []

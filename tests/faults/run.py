"""Runs a plan: for each step let texts flow, inject, let everything end, compare."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import anyio
import psycopg

from tests.faults.ledger import Evidence
from tests.faults.plan import Step
from tests.faults.report import Outcome
from tests.faults.traffic import Traffic
from tests.faults.world import PATIENCE_S, World

WARM_UP_S = 1.0
COOL_DOWN_S = 1.0
QUIET_S = 6.0
"""Nothing more is expected when nothing has come for so long on connected accounts."""
LONGEST_S = 2 * PATIENCE_S


async def run_plan(
    world: World, steps: Sequence[Step], say: Callable[[str], None]
) -> list[Outcome]:
    """One outcome a step. What was written early is judged again at the end: it may double late."""
    done: list[tuple[Step, float, str, str]] = []
    for step in steps:
        began = time.monotonic()
        injected_at, recovered, problem = await _run_step(world, step)
        done.append((step, injected_at, recovered, problem))
        verdict = world.ledger.judge(step.number, await world.evidence(), injected_at)
        say(
            f"{step.number + 1}/{len(steps)} {step.fault.name}: {problem or recovered}; "
            f"{verdict.written} written, {len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
            f"{len(verdict.misplaced)} in wrong order, {len(verdict.unknown)} unknown "
            f"({time.monotonic() - began:.0f} s)"
        )
    evidence = await world.evidence()
    return [
        Outcome(
            step.fault,
            world.ledger.judge(step.number, evidence, injected_at),
            recovered,
            problem,
        )
        for step, injected_at, recovered, problem in done
    ]


async def _run_step(world: World, step: Step) -> tuple[float, str, str]:
    dice = step.chance()
    traffic = Traffic(world, step.number, dice)
    recovered, problem = "not at all", ""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(traffic.run, name="traffic")
        injected_at = time.time()
        try:
            await world.until_flowing()
            await anyio.sleep(WARM_UP_S + dice.random())
            injected_at = time.time()
            recovered = await step.fault.inject(world, dice)
        except AssertionError as failed:
            problem = str(failed)
        await anyio.sleep(COOL_DOWN_S)
        traffic.stop()
    await until_ended(world, step)
    if problem:
        await world.repair()
    return injected_at, recovered, problem


async def until_ended(world: World, step: Step) -> None:
    """Until every text has arrived or has been told of; bounded, because one may be lost."""
    patience_s = QUIET_S if step.fault.may_lose else PATIENCE_S
    left, began = -1, time.monotonic()
    changed_at = began
    while time.monotonic() - changed_at < patience_s and time.monotonic() - began < LONGEST_S:
        evidence = Evidence()
        with contextlib.suppress(psycopg.OperationalError):
            evidence = await world.evidence()
        now_left = world.ledger.open(step.number, evidence)
        if now_left == 0:
            return
        if now_left != left or not await world.all_connected():
            left, changed_at = now_left, time.monotonic()
        await anyio.sleep(0.3)

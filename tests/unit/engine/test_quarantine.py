"""Who kills engines ends up alone, and the others get away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.quarantine import WINDOW_S, EngineKeepsDying, Quarantine
from bridge.ids import AccountId

ACCOUNTS = [AccountId(f"a{number}") for number in range(20)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def engines_of(quarantine: Quarantine, accounts: list[AccountId]) -> list[list[AccountId]]:
    """Placed as the fleet does: the fullest engine that takes it."""
    engines: list[list[AccountId]] = []
    for account in accounts:
        for engine in sorted(engines, key=len, reverse=True):
            if len(engine) < min(quarantine.company(each) for each in [account, *engine]):
                engine.append(account)
                break
        else:
            engines.append([account])
    return engines


@given(st.integers(0, 19))
def test_a_killer_among_twenty_costs_the_others_three_restarts_at_most(killer: int) -> None:
    quarantine = Quarantine(20)
    poison = ACCOUNTS[killer]
    restarts = dict.fromkeys(ACCOUNTS, 0)
    rounds = 0
    while True:
        try:
            quarantine.admit(poison)
        except EngineKeepsDying:
            break
        [engine] = [each for each in engines_of(quarantine, ACCOUNTS) if poison in each]
        quarantine.note_death(engine)
        for account in engine:
            restarts[account] += 1
        rounds += 1
        assert rounds < 20
    others = sorted(count for account, count in restarts.items() if account != poison)
    assert others == [2] * 15 + [3] * 4
    for account in ACCOUNTS:
        if account != poison:
            quarantine.admit(account)


def test_after_one_death_all_come_back_together() -> None:
    quarantine = Quarantine(20)
    quarantine.note_death(ACCOUNTS)
    assert engines_of(quarantine, ACCOUNTS) == [ACCOUNTS]


def test_who_lives_through_the_window_is_no_suspect_any_more() -> None:
    clock = Clock()
    quarantine = Quarantine(20, clock=clock)
    for _ in range(10):
        quarantine.note_death(ACCOUNTS[:1])
    assert quarantine.company(ACCOUNTS[0]) == 1
    clock.now = WINDOW_S + 1
    assert (quarantine.deaths(ACCOUNTS[0]), quarantine.company(ACCOUNTS[0])) == (0, 20)
    quarantine.admit(ACCOUNTS[0])


def test_who_was_refused_gets_one_chance_when_a_person_asks() -> None:
    quarantine = Quarantine(20)
    poison = ACCOUNTS[0]
    for _ in range(10):
        quarantine.note_death([poison])
    with pytest.raises(EngineKeepsDying):
        quarantine.admit(poison)
    quarantine.admit(poison)
    quarantine.note_death([poison])
    with pytest.raises(EngineKeepsDying):
        quarantine.admit(poison)

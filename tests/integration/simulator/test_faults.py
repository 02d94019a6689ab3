"""Each fault, as the real engine experiences it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from tests.fixtures.simulator import Simulator, fresh_number, own_simulator
from tests.integration.simulator.conftest import Engines, Linked

_numbers = itertools.count()


@pytest.fixture(scope="module")
def survivor(simulator: Simulator) -> Iterator[Linked]:
    """One linked engine for the faults that it survives."""
    made = Engines()
    yield Linked(made.new(simulator))
    made.close()


def _still_works(linked: Linked) -> None:
    text = f"after the fault {next(_numbers)}"
    linked.simulator.send_text(linked.customer, linked.shop, text)
    linked.engine.wait_text(text)


def test_drop_cuts_the_connection_and_the_engine_returns(survivor: Linked) -> None:
    before = survivor.engine.count("Connected")

    assert survivor.simulator.start_fault("drop", number=survivor.shop) == 1

    survivor.engine.wait("Disconnected")
    survivor.engine.wait_count("Connected", before + 1)
    _still_works(survivor)


def test_replace_ends_the_session_for_another(linked: Linked) -> None:
    linked.simulator.start_fault("replace", number=linked.shop)

    linked.engine.wait("StreamReplaced")
    assert linked.engine.count("Connected") == 1


def test_a_second_login_replaces_the_first(linked: Linked, engines: Engines) -> None:
    second = engines.again(linked.engine)

    second.ask("connect")

    second.wait("Connected")
    linked.engine.wait("StreamReplaced")


def test_ban_refuses_the_login_and_says_for_how_long(linked: Linked) -> None:
    linked.simulator.start_fault("ban", number=linked.shop, for_s=1800)

    ban = linked.engine.wait("TemporaryBan")

    assert 1790 <= ban["expire"] <= 1800


def test_service_unavailable_for_one_is_over_after_its_time(survivor: Linked) -> None:
    before = survivor.engine.count("Connected")

    survivor.simulator.start_fault("service_unavailable", number=survivor.shop, for_s=0.5)

    survivor.engine.wait_count("Connected", before + 1)
    _still_works(survivor)


def test_service_unavailable_for_all_refuses_connections(engines: Engines) -> None:
    with own_simulator() as simulator:
        linked = Linked(engines.new(simulator))
        simulator.start_fault("service_unavailable", for_s=1)
        linked.engine.wait("Disconnected")
        linked.engine.wait_count("Connected", 2)
        _still_works(linked)


def test_outdated_refuses_the_login(linked: Linked) -> None:
    linked.simulator.start_fault("outdated", number=linked.shop)

    linked.engine.wait("ClientOutdated")


def test_slow_delays_what_comes_and_keeps_its_order(survivor: Linked) -> None:
    survivor.simulator.start_fault("slow", number=survivor.shop, for_s=1, delay_s=0.5)
    begun = time.monotonic()
    texts = [f"slow {index}" for index in range(5)]
    for text in texts:
        survivor.simulator.send_text(survivor.customer, survivor.shop, text)

    survivor.engine.wait_text(texts[-1])

    assert time.monotonic() - begun >= 0.5
    assert [text for text in survivor.engine.texts() if text in texts] == texts


def test_deaf_answers_nothing_until_the_connection_is_new(survivor: Linked) -> None:
    before = survivor.engine.count("Connected")
    survivor.simulator.start_fault("deaf", number=survivor.shop, for_s=0.5)
    survivor.simulator.send_text(survivor.customer, survivor.shop, "unheard")

    assert survivor.simulator.companions(survivor.shop)[0]["connected"]
    assert "unheard" not in survivor.engine.texts()

    survivor.engine.wait_count("Connected", before + 1)
    survivor.engine.wait_text("unheard")


def test_deaf_for_all_accepts_connections_and_says_nothing(engines: Engines) -> None:
    with own_simulator() as simulator:
        simulator.start_fault("deaf")
        number = fresh_number()
        simulator.add_phone(number, "Ana")
        engine = engines.new(simulator)
        # neonize gives up when its first connection is cut, so nothing more is expected of it
        assert engine.count("QR") == 0
        simulator.clear_faults()
        engine.pair(number)


def test_faults_of_one_number_leave_others_alone(survivor: Linked) -> None:
    before = survivor.engine.count("Disconnected")

    for kind in ("drop", "ban", "deaf", "outdated", "service_unavailable"):
        survivor.simulator.start_fault(kind, number=survivor.customer, for_s=5)

    _still_works(survivor)
    assert survivor.engine.count("Disconnected") == before


def test_a_time_lock_refuses_messages_to_strangers_alone(survivor: Linked) -> None:
    linked = survivor.with_another_customer()
    linked.simulator.start_fault("timelock", number=linked.shop)
    try:
        with pytest.raises(AssertionError, match="463"):
            linked.engine.ask("send_text", to=linked.customer, text="hello stranger")
        linked.simulator.send_text(linked.customer, linked.shop, "I write first")
        linked.engine.wait_text("I write first")
        linked.engine.ask("send_text", to=linked.customer, text="then I may answer")
        linked.simulator.wait_for_text(linked.customer, "then I may answer")
    finally:
        linked.simulator.clear_faults()


def test_a_rate_limit_refuses_every_message(survivor: Linked) -> None:
    survivor.simulator.start_fault("rate_limit", number=survivor.shop)
    try:
        with pytest.raises(AssertionError, match="429"):
            survivor.engine.ask("send_text", to=survivor.customer, text="too much")
    finally:
        survivor.simulator.clear_faults()
    survivor.engine.ask("send_text", to=survivor.customer, text="in time")
    survivor.simulator.wait_for_text(survivor.customer, "in time")

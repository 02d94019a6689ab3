"""Each fault, as the real engine experiences it."""

from __future__ import annotations

import time

from tests.fixtures.simulator import fresh_number, own_simulator
from tests.integration.simulator.conftest import Engines, Linked


def _still_works(linked: Linked) -> None:
    linked.simulator.send_text(linked.customer, linked.shop, "after the fault")
    linked.engine.wait_text("after the fault")


def test_drop_cuts_the_connection_and_the_engine_returns(linked: Linked) -> None:
    assert linked.simulator.start_fault("drop", number=linked.shop) == 1

    linked.engine.wait("Disconnected")
    linked.engine.wait_count("Connected", 2)
    _still_works(linked)


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


def test_service_unavailable_for_one_is_over_after_its_time(linked: Linked) -> None:
    linked.simulator.start_fault("service_unavailable", number=linked.shop, for_s=0.5)

    linked.engine.wait_count("Connected", 2)
    _still_works(linked)


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


def test_slow_delays_what_comes_and_keeps_its_order(linked: Linked) -> None:
    linked.simulator.start_fault("slow", number=linked.shop, for_s=30, delay_s=0.5)
    begun = time.monotonic()
    texts = [f"slow {index}" for index in range(5)]
    for text in texts:
        linked.simulator.send_text(linked.customer, linked.shop, text)

    linked.engine.wait_text(texts[-1])

    assert time.monotonic() - begun >= 0.5
    assert linked.engine.texts() == texts


def test_deaf_answers_nothing(linked: Linked) -> None:
    linked.simulator.start_fault("deaf", number=linked.shop)
    linked.simulator.send_text(linked.customer, linked.shop, "unheard")

    assert linked.simulator.companions(linked.shop)[0]["connected"]
    assert "unheard" not in linked.engine.texts()

    linked.simulator.clear_faults()
    linked.engine.wait_text("unheard")


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


def test_faults_of_one_number_leave_others_alone(linked: Linked, engines: Engines) -> None:
    other = Linked(engines.new(linked.simulator))

    for kind in ("drop", "ban", "deaf"):
        linked.simulator.start_fault(kind, number=linked.shop, for_s=5)

    _still_works(other)
    assert other.engine.count("Disconnected") == 0

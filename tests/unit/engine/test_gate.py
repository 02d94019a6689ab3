import threading
import time

from bridge.engine import gate as gates
from bridge.engine.gate import Gate


def in_thread(work):
    done = threading.Event()

    def run():
        work()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


def test_many_share():
    gate = Gate()
    first = gate.shared()
    assert in_thread(gate.shared).wait(5)
    first.release()


def test_nobody_enters_beside_an_exclusive_hold():
    gate = Gate()
    hold = gate.exclusive()
    shared, alone = in_thread(gate.shared), in_thread(gate.exclusive)
    assert not shared.wait(0.05)
    assert not alone.wait(0)
    hold.release()
    assert alone.wait(5)


def test_a_start_that_dials_lets_calls_in_but_no_other_start():
    gate = Gate()
    start = gate.exclusive()
    start.share()
    with gate.entering():
        pass
    other = in_thread(gate.exclusive)
    assert not other.wait(0.05)
    start.release()
    assert other.wait(5)


def test_a_waiting_start_goes_before_new_calls():
    gate = Gate()
    call = gate.shared()
    start = in_thread(gate.exclusive)
    while not gate._waiting:
        time.sleep(0.001)
    assert not in_thread(gate.shared).wait(0.05)
    call.release()
    assert start.wait(5)


def test_a_long_call_does_not_hold_up_starts(monkeypatch):
    monkeypatch.setattr(gates, "ENTRY_S", 0.05)
    gate = Gate()
    with gate.entering():
        assert in_thread(gate.exclusive).wait(5)


def test_releasing_twice_does_no_harm():
    gate = Gate()
    first = gate.exclusive()
    first.release()
    second = gate.exclusive()
    first.release()
    first.share()
    assert not in_thread(gate.shared).wait(0.05)
    second.release()

"""The thread that sends, and the turns it takes with decryptions."""

import threading

import pytest

from bridge.engine import outcome, sender, turns
from bridge.engine.sender import Job, Sender
from bridge.engine.turns import Turns
from bridge.errors import CommandError
from bridge.events import SendFailed, SendNamed, SendStarted, SendSucceeded
from bridge.ids import CommandId, Jid, WhatsAppMessageId
from bridge.orders import Text


def job(name: str) -> Job:
    return Job(CommandId(name), Jid("1@lid"), Text(text="text"))


def done(each: Job) -> SendSucceeded:
    return SendSucceeded(command_id=each.command_id, id=WhatsAppMessageId("M"), sent_at=1.0)


class Spool(list[object]):
    def put(self, event: object) -> bool:
        self.append(event)
        return True


def test_each_send_is_announced_before_it_is_made():
    spool = Spool()

    def send(each):
        assert spool[-1] == SendStarted(command_id=each.command_id)
        return done(each)

    sending = Sender(send, lambda: None, spool.put)
    sending.start()
    for name in ("a", "b"):
        sending.put(job(name))
    while len(spool) < 4:
        threading.Event().wait(0.001)
    sending.end(5)

    assert [type(event) for event in spool] == [SendStarted, SendSucceeded] * 2


def test_the_name_of_a_message_is_told_by_the_thread_that_sends_it():
    spool = Spool()

    def send(each):
        # somebody else's message: a retry, in another thread
        other = threading.Thread(target=sending.name, args=(WhatsAppMessageId("OTHER"),))
        other.start()
        other.join()
        sending.name(WhatsAppMessageId("M"))
        return done(each)

    sending = Sender(send, lambda: None, spool.put)
    sending.start()
    sending.put(job("a"))
    while len(spool) < 3:
        threading.Event().wait(0.001)
    sending.end(5)

    named = SendNamed(command_id=CommandId("a"), id=WhatsAppMessageId("M"))
    assert spool == [SendStarted(command_id=CommandId("a")), named, done(job("a"))]


def test_what_was_not_begun_is_given_back_at_the_end():
    spool, go_on = Spool(), threading.Event()

    def send(each):
        go_on.wait(5)
        return done(each)

    sending = Sender(send, lambda: None, spool.put)
    sending.put(job("a"))
    sending.put(job("b"))
    sending.start()
    while not spool:
        threading.Event().wait(0.001)
    sending.end(0)
    go_on.set()
    sending.end(5)

    last = spool[-1]
    assert isinstance(last, SendFailed)
    assert (last.command_id, last.retryable) == ("b", True)
    assert len(spool) == 3
    with pytest.raises(CommandError):
        sending.put(job("c"))


def test_a_send_that_breaks_is_unknown_and_the_next_one_is_made():
    spool = Spool()

    def send(each):
        if each.command_id == "a":
            raise ValueError
        return done(each)

    sending = Sender(send, lambda: None, spool.put)
    sending.put(job("a"))
    sending.put(job("b"))
    sending.start()
    while len(spool) < 4:
        threading.Event().wait(0.001)
    sending.end(5)

    assert spool[1] == outcome.NO_ANSWER.of(CommandId("a"))
    assert isinstance(spool[3], SendSucceeded)


def test_without_a_connection_nothing_is_started():
    spool = Spool()
    sending = Sender(done, lambda: outcome.NOT_CONNECTED, spool.put)
    sending.put(job("a"))
    sending.start()
    while not spool:
        threading.Event().wait(0.001)
    sending.end(5)

    assert spool == [outcome.NOT_CONNECTED.of(CommandId("a"))]


def test_the_queue_is_bounded(monkeypatch):
    monkeypatch.setattr(sender, "MAX_QUEUED", 1)
    sending = Sender(done, lambda: None, Spool().put)
    sending.put(job("a"))
    with pytest.raises(CommandError) as caught:
        sending.put(job("b"))
    assert caught.value.retryable


DECRYPTS = b"\n\x30Decrypting message from 1@lid\x12\x05DEBUG\x1a\x06Client"
RECEIPT = b'\n\x30<receipt id="M" to="1@lid"/>\x12\x05DEBUG\x1a\x0bClient/Send'
MESSAGE = b'\n\x30<message id="M" to="1@lid"/>\x12\x05DEBUG\x1a\x0bClient/Send'
INCOMING = b'\n\x30<message id="M" from="1@lid"/>\x12\x05DEBUG\x1a\x0bClient/Recv'


def in_thread(work, *arguments):
    done = threading.Event()

    def run():
        work(*arguments)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


def test_a_send_waits_for_the_decryption_in_hand(monkeypatch):
    monkeypatch.setattr(turns, "SEND_WAITS_S", 60)
    taking = Turns()
    taking.look(DECRYPTS)
    began = in_thread(taking.begin_send)
    assert not began.wait(0.05)
    taking.look(INCOMING)
    assert not began.wait(0.05)
    taking.look(RECEIPT)
    assert began.wait(5)


def test_a_decryption_waits_until_the_message_is_written():
    taking = Turns()
    taking.begin_send()
    decrypts = in_thread(taking.look, DECRYPTS)
    assert not decrypts.wait(0.05)
    taking.look(MESSAGE)
    assert decrypts.wait(5)


def test_a_sign_that_does_not_come_costs_time_only(monkeypatch):
    monkeypatch.setattr(turns, "SEND_WAITS_S", 0.01)
    monkeypatch.setattr(turns, "DECRYPTION_WAITS_S", 0.01)
    taking = Turns()
    taking.look(DECRYPTS)
    taking.begin_send()
    taking.look(DECRYPTS)

"""Clients of the simulator: the real engine, one process each."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.simulator import Simulator, fresh_number

Json = dict[str, Any]
TIMEOUT_S = 30.0


class Engine:
    """One scripted client process, and every event that it reported."""

    def __init__(self, simulator: Simulator, directory: Path) -> None:
        self.simulator = simulator
        self.events: list[Json] = []
        self._directory = directory
        self._news = threading.Condition()
        self._answers: list[Json] = []
        trust = directory / "trust.json"
        trust.write_bytes(simulator.info.trust_json())
        receive, send = os.pipe()
        module = "tests.integration.simulator.scripted_client"
        command = [sys.executable, "-m", module, str(trust), str(directory / "session.db")]
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(send)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[send],
                text=True,
                bufsize=1,
            )
        os.close(send)
        self._reader = threading.Thread(target=self._read, args=[receive], daemon=True)
        self._reader.start()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor) as lines:
            for line in lines:
                message = json.loads(line)
                with self._news:
                    kept = self.events if "event" in message else self._answers
                    kept.append(message)
                    self._news.notify_all()

    def ask(self, op: str, **arguments: object) -> Any:
        """Have the client do something, and wait for its answer."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        with self._news:
            arrived = self._news.wait_for(lambda: self._answers, TIMEOUT_S)
            assert arrived, f"no answer to {op}; {self._log()}"
            answer = self._answers.pop(0)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def wait(self, name: str, wanted: Callable[[Json], bool] = lambda _: True) -> Json:
        """The first event of that name that is wanted, also of the past."""

        def found() -> Json | None:
            events = (each for each in self.events if each["event"] == name)
            return next((each for each in events if wanted(each)), None)

        with self._news:
            event = self._news.wait_for(found, TIMEOUT_S)
        names = [each["event"] for each in self.events]
        assert event, f"no {name} among {names}; {self._log()}"
        return event

    def wait_text(self, text: str) -> Json:
        return self.wait("Message", lambda event: event["text"] == text)

    def texts(self) -> list[str]:
        return [each["text"] for each in self.events if each["event"] == "Message" and each["text"]]

    def count(self, name: str) -> int:
        return sum(each["event"] == name for each in self.events)

    def wait_count(self, name: str, count: int) -> None:
        with self._news:
            arrived = self._news.wait_for(lambda: self.count(name) >= count, TIMEOUT_S)
        assert arrived, f"{self.count(name)} {name}, not {count}; {self._log()}"

    def pair(self, number: str) -> Json:
        """Connect and be scanned by a phone; gives the device."""
        self.ask("connect")
        device = self.simulator.scan(number, self.wait("QR")["text"])
        self.wait("Connected")
        return device

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self._reader.join(5)
        assert self.process.stdin
        self.process.stdin.close()

    def _log(self) -> str:
        return (self._directory / "log").read_text()[-2000:]


class Engines:
    """Makes engines; `again` starts another process on the session of an earlier one."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._directories: dict[Engine, Path] = {}

    def new(self, simulator: Simulator) -> Engine:
        memory = Path("/dev/shm")
        directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self._stack.callback(shutil.rmtree, directory)
        return self._start(simulator, directory)

    def again(self, engine: Engine) -> Engine:
        return self._start(engine.simulator, self._directories[engine])

    def _start(self, simulator: Simulator, directory: Path) -> Engine:
        engine = Engine(simulator, directory)
        self._directories[engine] = directory
        self._stack.callback(engine.close)
        return engine

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def engines() -> Iterator[Engines]:
    """Engines for one test; their processes end with it."""
    made = Engines()
    yield made
    made.close()


@pytest.fixture
def engine(engines: Engines, simulator: Simulator) -> Engine:
    """One engine that is not linked yet."""
    return engines.new(simulator)


class Linked:
    """A shop whose phone is linked to an engine, and a customer."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.simulator = engine.simulator
        self.shop, self.customer = fresh_number(), fresh_number()
        self.simulator.add_phone(self.shop, "Shop")
        self.simulator.add_phone(self.customer, "Maria")
        self.device = engine.pair(self.shop)

    def with_another_customer(self) -> Linked:
        other = copy.copy(self)
        other.customer = fresh_number()
        self.simulator.add_phone(other.customer, "Maria")
        return other


@pytest.fixture
def linked(engine: Engine) -> Linked:
    """A linked shop and a customer."""
    return Linked(engine)


def eventually(probe: Callable[[], object], *, timeout_s: float = TIMEOUT_S) -> None:
    """Ask again and again until the answer is true, or fail."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.01)

"""Baileys as a child process: orders in, events out, one JSON line each (see baileys/client.mjs).

    with running_baileys(simulator.control_url, tmp_path) as client:
        simulator.scan(number, client.wait_for("qr")["qr"])
        client.wait_for("connected")

It is a WhatsApp client that no one here wrote; what it understands, others understand.
"""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Event = dict[str, Any]
_PROGRAM = Path(__file__).parent / "baileys" / "client.mjs"
_TIMEOUT_S = 40.0
_LEAVE_TIMEOUT_S = 20.0
_LOG_TAIL = 3000


class OrderRefused(Exception):
    """Baileys raised; the text is its message."""


class ClientEnded(Exception):
    """The process is gone, and what was waited for had not happened."""


class BaileysClient:
    """Keeps every event since the start; a wait also finds those that have happened already."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.events: list[Event] = []
        self._process = process
        self._log = log
        self._refs = itertools.count(1)
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="baileys events", daemon=True)
        self._reader.start()

    # ------------------------------------------------------------------ events

    def wait_for(self, event: str, *, timeout_s: float = _TIMEOUT_S, **fields: object) -> Event:
        """The first event of that name whose fields have these values.

        :raises TimeoutError: if it does not happen in time.
        :raises ClientEnded: if it cannot happen any more.
        """
        return self.wait_until(
            lambda: next(iter(self.seen(event, **fields)), None),
            what=f"{event} {fields}",
            timeout_s=timeout_s,
        )

    def wait_until(
        self, look: Callable[[], Event | None], *, what: str, timeout_s: float = _TIMEOUT_S
    ) -> Event:
        """What `look` finds; it is asked again at each event.

        :raises TimeoutError: if it finds nothing in time.
        :raises ClientEnded: if it cannot find anything any more.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (found := look()) is None:
                if self._ended:
                    raise ClientEnded(f"no {what}; {self._story()}")
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"no {what}; {self._story()}")
        return found

    def seen(self, event: str, **fields: object) -> list[Event]:
        """The events so far of that name whose fields have these values."""
        return [
            each
            for each in self.events
            if each["event"] == event and all(each.get(k) == v for k, v in fields.items())
        ]

    # ------------------------------------------------------------------ orders

    def send_text(self, to: str, text: str) -> str:
        """Send a text to an address; gives the message's id."""
        return self.send(to=to, type="text", text=text)

    def send_media(self, to: str, kind: str, data: bytes, **options: object) -> str:
        """Send an image, video, audio, document or sticker; gives the message's id."""
        return self.send(to=to, type=kind, media_base64=base64.b64encode(data).decode(), **options)

    def send(self, **message: object) -> str:
        """Send anything that content.mjs can make; gives the message's id."""
        return str(self._order("send", **message)["id"])

    def read(self, message: Event) -> None:
        """Mark a received message as read."""
        group = message["chat"].endswith("@g.us")
        sender = message["from"] if group else None
        self._order("read", chat=message["chat"], id=message["id"], sender=sender)

    def logout(self) -> None:
        """Unlink this device; the process ends."""
        self._order("logout")

    def quit(self) -> None:
        """Disconnect and end; the state stays linked. Does nothing if it has ended."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self.wait_ended()

    def wait_ended(self, *, timeout_s: float = _LEAVE_TIMEOUT_S) -> int:
        """Wait for the process to end by itself; gives its exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def kill(self) -> None:
        """End the process the hard way, and close the pipes."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait_ended()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _order(self, do: str, **fields: object) -> Event:
        if self._process.stdin is None:
            raise ClientEnded("the client has no input")
        ref = next(self._refs)
        self._process.stdin.write(json.dumps({"do": do, "ref": ref, **fields}) + "\n")
        self._process.stdin.flush()
        answer = self.wait_until(
            lambda: next((each for each in self.events if each.get("ref") == ref), None),
            what=f"answer to {do}",
        )
        if answer["event"] == "refused":
            raise OrderRefused(answer["reason"])
        return answer

    # ------------------------------------------------------------------ the process

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _story(self) -> str:
        return f"events: {self.events}; log: {self._log.read_text()[-_LOG_TAIL:]}"


@contextmanager
def running_baileys(
    control_url: str, state: Path, *, phone: str | None = None
) -> Iterator[BaileysClient]:
    """Start the client; at the end it disconnects, and its state stays in the directory.

    Args:
        control_url: of the simulator.
        state: directory that keeps keys and sessions; made if it is not there.
        phone: link by a code for this number instead of by QR.
    """
    state.mkdir(parents=True, exist_ok=True)
    log = state.with_suffix(".log")
    command = ["node", str(_PROGRAM), "--trust", f"{control_url}/trust", "--state", str(state)]
    command += ["--phone", phone] if phone else []
    with log.open("a") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    client = BaileysClient(process, log)
    try:
        yield client
        client.quit()
    finally:
        client.kill()

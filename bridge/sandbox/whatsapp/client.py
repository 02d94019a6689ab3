"""A client of the control API, for tests and scripts: plain, synchronous, typed."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import httpx

Json = dict[str, Any]
_TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 20.0


class ControlRefused(Exception):
    """The control API answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


class SimulatorClient:
    """One method a route; answers are the JSON of the API. Close it when done."""

    def __init__(self, control_url: str) -> None:
        # the environment may name a proxy, which is not for this
        self._http = httpx.Client(base_url=control_url, timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # ------------------------------------------------------------------ phones

    def add_phone(self, number: str, name: str = "", *, addressing: str = "lid") -> Json:
        """A new WhatsApp user."""
        return self._call(
            "POST", "/phones", {"number": number, "name": name, "addressing": addressing}
        )

    def phone(self, number: str) -> Json:
        """One phone and its devices."""
        return self._call("GET", f"/phones/{number}")

    def change_phone(self, number: str, **changes: object) -> Json:
        """`online`, `name`, `about`, … (`bodies.PhoneChange`)."""
        return self._call("PATCH", f"/phones/{number}", changes)

    def set_picture(self, number: str, picture: bytes) -> None:
        """A new picture of a person; empty = none."""
        self.change_phone(number, picture_base64=base64.b64encode(picture).decode())

    def remove_phone(self, number: str) -> None:
        """Delete an account."""
        self._call("DELETE", f"/phones/{number}")

    def scan(self, number: str, qr: str) -> Json:
        """Link a client by its QR code (text or PNG data URL); gives the device."""
        return self._call("POST", f"/phones/{number}/scan", {"qr": qr})

    def link_code(self, number: str, code: str) -> Json:
        """Link a client by its eight letters; gives the device."""
        return self._call("POST", f"/phones/{number}/link-code", {"code": code})

    def unlink(self, number: str, device: int | None = None) -> Json:
        """Log one linked device out, or all."""
        return self._call("POST", f"/phones/{number}/unlink", {"device": device})

    def companions(self, number: str) -> list[Json]:
        """The devices linked to a phone."""
        devices: list[Json] = self.phone(number)["devices"]
        return devices

    # ------------------------------------------------------------------ messages

    def send_text(self, number: str, to: str, text: str, **options: object) -> str:
        """A text to a number, an address or a group; gives the message's id."""
        return self.send(number, to=to, type="text", text=text, **options)

    def send_media(self, number: str, to: str, kind: str, data: bytes, **options: object) -> str:
        """An image, video, audio or document; gives the message's id."""
        encoded = base64.b64encode(data).decode()
        return self.send(number, to=to, type=kind, media_base64=encoded, **options)

    def send(self, number: str, **message: object) -> str:
        """Any message of ``POST /phones/{number}/messages``; gives its id."""
        return str(self._call("POST", f"/phones/{number}/messages", message)["id"])

    def call(self, number: str, to: str, *, video: bool = False) -> str:
        """Let it ring at a number, or in a group; gives the call's id."""
        return str(self._call("POST", f"/phones/{number}/calls", {"to": to, "video": video})["id"])

    def end_call(self, number: str, to: str, call: str, reason: str = "") -> None:
        """Hang up."""
        body = {"to": to, "reason": reason}
        self._call("POST", f"/phones/{number}/calls/{call}/end", body)

    def inbox(self, number: str, after: int = 0, wait_s: float = 0) -> list[Json]:
        """What a phone got after an entry; waits up to `wait_s` for the next."""
        query = {"after": after, "wait_s": wait_s}
        entries: list[Json] = self._call("GET", f"/phones/{number}/inbox", query=query)["entries"]
        return entries

    def wait_for(
        self, number: str, wanted: Callable[[Json], bool], *, timeout_s: float = 10.0
    ) -> Json:
        """The first inbox entry that is wanted.

        :raises TimeoutError: if none comes in time; the text lists what came instead.
        """
        deadline = time.monotonic() + timeout_s
        seen: list[Json] = []
        after = 0
        while (left_s := deadline - time.monotonic()) > 0:
            for entry in self.inbox(number, after, min(left_s, _LONGEST_WAIT_S)):
                if wanted(entry):
                    return entry
                seen.append(entry)
                after = int(entry["seq"])
        raise TimeoutError(f"the wanted entry did not come; there were {seen}")

    def wait_for_text(self, number: str, text: str, *, timeout_s: float = 10.0) -> Json:
        """The message with that text."""
        return self.wait_for(
            number,
            lambda entry: entry["kind"] == "message" and entry.get("text") == text,
            timeout_s=timeout_s,
        )

    def wait_for_receipt(
        self, number: str, message_id: str, kind: str, *, timeout_s: float = 10.0
    ) -> Json:
        """The receipt of that type for that message."""
        return self.wait_for(
            number,
            lambda entry: (
                entry["kind"] == "receipt" and entry["type"] == kind and message_id in entry["ids"]
            ),
            timeout_s=timeout_s,
        )

    def media(self, number: str, message_id: str) -> bytes:
        """The decrypted file of a message."""
        return self._request("GET", f"/phones/{number}/media/{message_id}").content

    def read(self, number: str, ids: Sequence[str], *, played: bool = False) -> None:
        """Send read (or played) receipts."""
        self._call("POST", f"/phones/{number}/read", {"ids": list(ids), "played": played})

    def typing(self, number: str, to: str, state: str = "composing") -> None:
        """Show others that the person types."""
        self._call("POST", f"/phones/{number}/typing", {"to": to, "state": state})

    def history(
        self,
        number: str,
        conversations: Sequence[Mapping[str, object]],
        *,
        now: bool = False,
        chunks: int = 1,
        withheld: bool = False,
    ) -> Json:
        """Set what the next history sync contains; `now` sends it to linked devices as well."""
        body = {
            "conversations": [dict(each) for each in conversations],
            "now": now,
            "chunks": chunks,
            "withheld": withheld,
        }
        return self._call("POST", f"/phones/{number}/history", body)

    def add_contact(self, number: str, other: str, name: str) -> None:
        """Put somebody into a phone's address book."""
        self._call("POST", f"/phones/{number}/contacts", {"number": other, "name": name})

    def change_chat(self, number: str, to: str, **changes: object) -> None:
        """`archived`, `pinned`, `muted_until` (`bodies.ChatChange`) of a phone's chat."""
        self._call("POST", f"/phones/{number}/chats", {"to": to, **changes})

    # ------------------------------------------------------------------ groups and the server

    def add_group(self, subject: str, participants: Sequence[str]) -> str:
        """A new group, owned by the first participant; gives its address."""
        body = {"subject": subject, "participants": list(participants)}
        return str(self._call("POST", "/groups", body)["jid"])

    def change_group(self, jid: str, **changes: object) -> Json:
        """`subject`, `add`, `remove`, `promote`, … (`bodies.GroupChange`)."""
        return self._call("PATCH", f"/groups/{jid}", changes)

    def set_group_picture(self, jid: str, picture: bytes) -> None:
        """A new picture of a group; empty = none."""
        self.change_group(jid, picture_base64=base64.b64encode(picture).decode())

    def start_fault(
        self,
        kind: str,
        *,
        number: str | None = None,
        for_s: float | None = None,
        delay_s: float | None = None,
    ) -> int:
        """Begin a fault; gives how many connections it met."""
        body = {"kind": kind, "number": number, "for_s": for_s, "delay_s": delay_s}
        return int(self._call("POST", "/faults", body)["connections"])

    def clear_faults(self) -> None:
        """End all faults."""
        self._call("DELETE", "/faults")

    def trust(self) -> dict[str, str]:
        """What a client needs to reach the simulator."""
        return self._call("GET", "/trust")

    def state(self) -> Json:
        """Everything."""
        return self._call("GET", "/state")

    # ------------------------------------------------------------------ HTTP

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, float] | None = None,
    ) -> Json:
        answer: Json = self._request(method, path, body, query=query).json()
        return answer

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, float] | None = None,
    ) -> httpx.Response:
        response = self._http.request(method, path, json=body, params=dict(query or {}))
        if response.is_error:
            error = response.json()["error"]
            raise ControlRefused(response.status_code, error["code"], error["message"])
        return response

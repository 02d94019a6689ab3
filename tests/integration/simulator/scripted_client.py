"""The real, unmodified neonize in a process of its own, steered by JSON lines.

    python -m tests.integration.simulator.scripted_client TRUST-FILE DATABASE FD

Requests come on stdin: ``{"op": …, …}``; answers and events go to FD, one JSON object a line:
``{"answer": …}``, ``{"error": …}``, ``{"event": name, …}``. Go prints to stdout, so that is not
used. neonize keeps state for the whole process and some of it never ends, hence a process a client.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bridge.sandbox import trust


def main() -> None:
    wanted = trust.Trust.read(Path(sys.argv[1]))
    trust.start_with_environment(wanted)
    trust.install(wanted)
    asyncio.run(Client(sys.argv[2], int(sys.argv[3])).run())


class Client:
    def __init__(self, database: str, descriptor: int) -> None:
        from neonize.aioze.client import NewAClient
        from neonize.aioze.events import QREv
        from neonize.events import INT_TO_EVENT

        self._out = os.fdopen(descriptor, "w", buffering=1)
        self._client = NewAClient(database, uuid=database)
        self._messages: dict[str, Any] = {}
        for code, kind in INT_TO_EVENT.items():
            if code and kind is not QREv:
                self._client.event(kind)(self._on_event)
        self._client.qr(self._on_qr)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        # every session parks a thread of the default executor for good
        loop.set_default_executor(ThreadPoolExecutor(16))
        reader = asyncio.StreamReader(limit=1 << 26)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            request = json.loads(line)
            try:
                answer = await getattr(self, "do_" + request.pop("op"))(**request)
            except Exception as error:  # noqa: BLE001 (told to the test)
                self._say(error=repr(error))
            else:
                self._say(answer=answer)
        os._exit(0)

    def _say(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")

    # ------------------------------------------------------------------ events

    async def _on_qr(self, _client: Any, qr: bytes) -> None:
        self._say(event="QR", text=qr.decode())

    async def _on_event(self, _client: Any, event: Any) -> None:
        name = type(event).__name__
        tell = getattr(self, "_tell_" + name, None)
        self._say(event=name, **(tell(event) if tell else {}))

    def _tell_Message(self, event: Any) -> dict[str, Any]:  # noqa: N802 (named after the event)
        from google.protobuf.json_format import MessageToDict

        source = event.Info.MessageSource
        self._messages[event.Info.ID] = event
        return {
            "id": event.Info.ID,
            "text": event.Message.conversation or event.Message.extendedTextMessage.text,
            "chat": f"{source.Chat.User}@{source.Chat.Server}",
            "sender": source.Sender.User,
            "sender_alt": source.SenderAlt.User,
            "from_me": source.IsFromMe,
            "push_name": event.Info.Pushname,
            "content": MessageToDict(event.Message),
        }

    def _tell_UndecryptableMessage(self, event: Any) -> dict[str, Any]:  # noqa: N802
        return {"id": event.Info.ID}

    def _tell_Receipt(self, event: Any) -> dict[str, Any]:  # noqa: N802
        source = event.MessageSource
        chat = f"{source.Chat.User}@{source.Chat.Server}"
        return {
            "ids": list(event.MessageIDs),
            "type": int(event.Type),
            "chat": chat,
            "sender": source.Sender.User,
            "from_me": source.IsFromMe,
        }

    def _tell_HistorySync(self, event: Any) -> dict[str, Any]:  # noqa: N802
        from google.protobuf.json_format import MessageToDict

        return {"data": MessageToDict(event.Data)}

    def _tell_TemporaryBan(self, event: Any) -> dict[str, Any]:  # noqa: N802
        return {"code": int(event.Code), "expire": int(event.Expire)}

    def _tell_LoggedOut(self, event: Any) -> dict[str, Any]:  # noqa: N802
        return {"on_connect": event.OnConnect, "reason": int(event.Reason)}

    def _tell_JoinedGroup(self, event: Any) -> dict[str, Any]:  # noqa: N802
        return {"subject": event.GroupInfo.GroupName.Name, "group": event.GroupInfo.JID.User}

    def _tell_ChatPresence(self, event: Any) -> dict[str, Any]:  # noqa: N802
        return {"state": int(event.State)}

    # ------------------------------------------------------------------ requests

    async def do_connect(self) -> None:
        await self._client.connect()

    async def do_pair_by_code(self, number: str) -> str:
        from neonize.utils.enum import ClientName, ClientType

        code: str = await self._client.PairPhone(number, True, ClientName.LINUX, ClientType.CHROME)
        return code

    async def do_send_text(self, to: str, text: str) -> str:
        return str((await self._client.send_message(_jid(to), text)).ID)

    async def do_upload(self, data: str) -> dict[str, Any]:
        """Upload an image; gives the imageMessage for `send_image`."""
        from neonize.utils.enum import MediaType

        raw = base64.b64decode(data)
        up = await self._client.upload(raw, MediaType.MediaImage)
        return {
            "URL": up.url,
            "directPath": up.DirectPath,
            "mediaKey": base64.b64encode(up.MediaKey).decode(),
            "fileEncSHA256": base64.b64encode(up.FileEncSHA256).decode(),
            "fileSHA256": base64.b64encode(up.FileSHA256).decode(),
            "fileLength": up.FileLength,
            "mimetype": "image/png",
        }

    async def do_send_message(self, to: str, message: dict[str, Any]) -> str:
        from google.protobuf.json_format import ParseDict
        from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

        parsed = ParseDict(message, Message())
        return str((await self._client.send_message(_jid(to), parsed)).ID)

    async def do_download(self, id: str) -> str:  # noqa: A002 (as the requests call it)
        data = await self._client.download_any(self._messages[id].Message)
        return base64.b64encode(data).decode()

    async def do_mark_read(self, ids: list[str], chat: str, sender: str) -> None:
        from neonize.utils.enum import ReceiptType

        chat_jid, sender_jid = _jid(chat), _jid(sender)
        await self._client.mark_read(
            *ids, chat=chat_jid, sender=sender_jid, receipt=ReceiptType.READ
        )

    async def do_available(self) -> bool:
        """Whether it could: the own name must have come through the app state first."""
        from neonize.exc import SendPresenceError
        from neonize.utils.enum import Presence

        try:
            await self._client.send_presence(Presence.AVAILABLE)
        except SendPresenceError:
            return False
        return True

    async def do_typing(self, to: str) -> None:
        from neonize.utils.enum import ChatPresence, ChatPresenceMedia

        await self._client.send_chat_presence(
            _jid(to),
            ChatPresence.CHAT_PRESENCE_COMPOSING,
            ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT,
        )

    async def do_group(self, group: str) -> dict[str, Any]:
        info = await self._client.get_group_info(_jid(group))
        return {"subject": info.GroupName.Name, "participants": len(info.Participants)}

    async def do_is_on_whatsapp(self, number: str) -> bool:
        found = await self._client.is_on_whatsapp(number)
        return bool(found[0].IsIn)

    async def do_logout(self) -> None:
        await self._client.logout()


def _jid(text: str) -> Any:
    from neonize.utils.jid import build_jid

    user, _, server = text.partition("@")
    return build_jid(user, server or "s.whatsapp.net")


if __name__ == "__main__":
    main()

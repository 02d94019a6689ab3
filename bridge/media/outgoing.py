"""Files to be sent: from where a command says they are to WhatsApp, and into the message's row.

What is sent is first made ours: a file of this host whose size and content are known, an object in
the bucket, and the row in `attachments` that names it. Then the engine uploads it. All of it may be
repeated: nothing of it is seen by the other person.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from anyio import to_thread

from bridge.errors import CommandError
from bridge.ids import AccountId, CommandId, LeaseEpoch
from bridge.media.fetch import Fetcher
from bridge.media.incoming import seen_facts
from bridge.media.limits import MediaKind, MediaLimits, MediaTooLarge
from bridge.media.mime import bare_type
from bridge.media.names import StoragePath, display_name, path_of_workspace
from bridge.media.probe import Probe, probe
from bridge.media.sink import Sink
from bridge.media.stickers import STICKER_EDGE, write_sticker
from bridge.media.storing import Bucket, KnowsFiles, scratch, stored_once
from bridge.media.voice import VoiceNote, write_voice_note
from bridge.media.workshop import Workshop
from bridge.orders import Media, Request, Uploaded, UploadMedia
from bridge.supabase.answers import ClaimedCommand
from bridge.supabase.patience import until_available

STICKER_TYPE = "image/webp"
PICTURE_TYPE = "image/jpeg"


class MediaUnsuitable(CommandError):
    """The file is not what the command says it is."""

    code = "media_unsuitable"


class Sender(Protocol):
    """The account that sends."""

    @property
    def workspace_id(self) -> str:
        """Whose files it may send."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """As its row says."""

    async def ask(self, order: Request) -> Any:
        """Have something done at WhatsApp."""


class OutgoingRpc(KnowsFiles, Protocol):
    """What is needed of the database."""

    async def attach_to_send(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId, facts: dict[str, Any]
    ) -> str | None:
        """The message of a send has this file."""


class ReadableBucket(Bucket, Protocol):
    """Where files are stored, and come from."""

    async def download(self, path: str, target: Landing) -> None:
        """Read an object, piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a command says of its file; exactly one of `storage_path` and `media_url` is given."""

    kind: MediaKind
    storage_path: str | None = None
    media_url: str | None = None
    file_name: str | None = None
    mime_type: str | None = None
    voice_note: bool = False
    attach: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Local:
    """A file on this host.

    Attributes:
        stored_at: where the bucket has these bytes already.
        name: what it was called, as it came.
    """

    path: Path
    size_bytes: int
    sha256: str
    declared: str | None
    name: str | None
    stored_at: str | None


class Landing:
    """A file that a download is written to, up to a limit."""

    def __init__(self, sink: Sink, limit_bytes: int) -> None:
        self._sink = sink
        self._limit_bytes = limit_bytes

    def announce(self, size_bytes: int) -> None:
        """So much will come.

        :raises MediaTooLarge: if that is more than the limit.
        """
        if size_bytes > self._limit_bytes:
            raise MediaTooLarge(self._limit_bytes)

    async def write(self, data: bytes) -> None:
        """Append.

        :raises MediaTooLarge: if that is more than the limit.
        """
        self.announce(self._sink.size_bytes + len(data))
        await to_thread.run_sync(self._sink.write, bytearray(data))


class Outbox:
    """Prepares the files of all accounts of this host."""

    def __init__(
        self,
        rpc: OutgoingRpc,
        bucket: ReadableBucket,
        fetcher: Fetcher,
        workshop: Workshop,
        folder: Path,
    ) -> None:
        self._rpc = rpc
        self._bucket = bucket
        self._fetcher = fetcher
        self._workshop = workshop
        self._folder = folder

    async def prepare(
        self,
        command: ClaimedCommand,
        account: Sender,
        *,
        kind: str,
        storage_path: str | None = None,
        media_url: str | None = None,
        file_name: str | None = None,
        mime_type: str | None = None,
        voice_note: bool = False,
        attach: bool = True,
    ) -> Media:
        """The file as WhatsApp has it then; caption, quote and mentions are the caller's.

        Args:
            command: a `send` that runs.
            account: that sends.
            kind: how WhatsApp shows it.
            storage_path: in the bucket, or
            media_url: anywhere in the public internet.
            file_name: shown of a document.
            mime_type: heard where content leaves it open.
            voice_note: any sound becomes one.
            attach: it is the file of the command's message, whose row is to name it.

        :raises CommandError: saying what is wrong with the file, or with where it should be.
        """
        wanted = Wanted(
            kind=MediaKind(kind),
            storage_path=storage_path,
            media_url=media_url,
            file_name=file_name,
            mime_type=mime_type,
            voice_note=voice_note,
            attach=attach,
        )
        if (storage_path is None) == (media_url is None):
            raise MediaUnsuitable("Either `storage_path` or `media_url` says where the file is.")
        return await self._prepared(command, account, wanted)

    @asynccontextmanager
    async def picture(self, account: Sender, storage_path: str) -> AsyncIterator[Path]:
        """A picture of the bucket on this host, for a profile or a group.

        :raises CommandError: if it is not there, too large, or no JPEG.
        """
        wanted = Wanted(kind=MediaKind.IMAGE, storage_path=storage_path)
        limit_bytes = limits_of(account.settings).for_kind(MediaKind.IMAGE)
        async with self._local(account, wanted, limit_bytes) as local:
            seen = await probe(self._workshop, local.path, file_name=local.name)
            if seen.mime_type != PICTURE_TYPE:
                raise MediaUnsuitable(f"The picture must be a JPEG; this is {seen.mime_type}.")
            yield local.path

    async def _prepared(self, command: ClaimedCommand, account: Sender, wanted: Wanted) -> Media:
        limits = limits_of(account.settings)
        limit_bytes = limits.for_kind(_source_of(wanted.kind))
        async with AsyncExitStack() as stack:
            local = await stack.enter_async_context(self._local(account, wanted, limit_bytes))
            if not local.size_bytes:
                raise MediaUnsuitable("The file is empty.")
            seen = await probe(
                self._workshop,
                local.path,
                declared=wanted.mime_type or local.declared,
                file_name=wanted.file_name or local.name,
            )
            voice: VoiceNote | None = None
            if wanted.voice_note:
                local, voice = await stack.enter_async_context(self._spoken(local, limit_bytes))
            elif wanted.kind is MediaKind.STICKER and not (
                _is_sticker(seen) and local.size_bytes <= limits.sticker_bytes
            ):
                local, seen = await stack.enter_async_context(self._stuck(local, seen))
            else:
                _check_kind(wanted.kind, seen)
            mime_type = voice.mime_type if voice else seen.mime_type
            name = display_name(wanted.file_name or local.name or "") or None
            if wanted.attach:
                await self._attach(
                    command,
                    {
                        "path": local.stored_at
                        or await self._store(command, account, local, mime_type),
                        "mime_type": mime_type,
                        "file_name": name if wanted.kind is MediaKind.DOCUMENT else None,
                        "size_bytes": local.size_bytes,
                        "sha256": local.sha256,
                        **(_voice_facts(voice) if voice else seen_facts(seen)),
                    },
                )
            order = UploadMedia(kind=wanted.kind.value, path=str(local.path))
            file = msgspec.convert(await account.ask(order), Uploaded)
        return _media(wanted, file, seen, voice, mime_type=mime_type, name=name)

    async def _attach(self, command: ClaimedCommand, facts: dict[str, Any]) -> None:
        await until_available(
            lambda: self._rpc.attach_to_send(
                command.account_id, command.lease_epoch, command.id, facts
            ),
            what="attach a file",
        )

    @asynccontextmanager
    async def _local(
        self, account: Sender, wanted: Wanted, limit_bytes: int
    ) -> AsyncIterator[_Local]:
        if wanted.media_url is not None:
            async with self._fetcher.fetch(wanted.media_url, limit_bytes=limit_bytes) as fetched:
                yield _Local(
                    path=fetched.path,
                    size_bytes=fetched.size_bytes,
                    sha256=fetched.sha256,
                    declared=fetched.declared,
                    name=fetched.suggested_name,
                    stored_at=None,
                )
            return
        path = path_of_workspace(wanted.storage_path or "", account.workspace_id)
        sink = await to_thread.run_sync(Sink, self._folder)
        try:
            await self._bucket.download(path, Landing(sink, limit_bytes))
            await to_thread.run_sync(sink.finish)
            yield _Local(
                path=sink.path,
                size_bytes=sink.size_bytes,
                sha256=sink.sha256,
                declared=None,
                name=path.rpartition("/")[2],
                stored_at=path,
            )
        finally:
            sink.discard()

    @asynccontextmanager
    async def _spoken(
        self, local: _Local, limit_bytes: int
    ) -> AsyncIterator[tuple[_Local, VoiceNote]]:
        """The recording as a voice note, which is what is sent and stored."""
        with scratch(self._folder, ".ogg") as target:
            voice = await write_voice_note(
                self._workshop, local.path, target, max_source_bytes=limit_bytes
            )
            yield (
                _Local(
                    path=target,
                    size_bytes=voice.size_bytes,
                    sha256=await to_thread.run_sync(_sha256_of, target),
                    declared=voice.mime_type,
                    name="voice.ogg",
                    stored_at=None,
                ),
                voice,
            )

    @asynccontextmanager
    async def _stuck(self, local: _Local, seen: Probe) -> AsyncIterator[tuple[_Local, Probe]]:
        """The picture as a sticker, which is what is sent and stored."""
        if seen.kind is not MediaKind.IMAGE:
            raise MediaUnsuitable(
                f"A sticker is made of a picture, moving or not; this is {seen.mime_type}."
            )
        with scratch(self._folder, ".webp") as target:
            sticker = await write_sticker(self._workshop, local.path, target)
            made = _Local(
                path=target,
                size_bytes=sticker.size_bytes,
                sha256=await to_thread.run_sync(_sha256_of, target),
                declared=STICKER_TYPE,
                name="sticker.webp",
                stored_at=None,
            )
            yield made, await probe(self._workshop, target, declared=STICKER_TYPE)

    async def _store(
        self, command: ClaimedCommand, account: Sender, local: _Local, mime_type: str
    ) -> str:
        """Path of a copy in the bucket."""
        if command.conversation_id is None or command.message_id is None:
            raise CommandError("The database did not say where to.", code="recipient_unknown")
        place = StoragePath.of(
            workspace_id=account.workspace_id,
            account_id=command.account_id,
            conversation_id=command.conversation_id,
            message_id=command.message_id,
            name=local.name,
            mime_type=mime_type,
        )
        return await stored_once(
            self._rpc,
            self._bucket,
            local.path,
            place,
            epoch=command.lease_epoch,
            sha256=local.sha256,
            mime_type=bare_type(mime_type) or mime_type,
        )


def limits_of(settings: Mapping[str, Any]) -> MediaLimits:
    """The limits of an account, by its settings."""
    return MediaLimits().overridden(settings.get("media_limits") or {})


def _source_of(kind: MediaKind) -> MediaKind:
    """Of which kind a file is that is sent as one of this kind."""
    return MediaKind.IMAGE if kind is MediaKind.STICKER else kind


def _is_sticker(seen: Probe) -> bool:
    """Whether a picture can be sent as one without being made anew."""
    return (seen.mime_type, seen.width, seen.height) == (STICKER_TYPE, STICKER_EDGE, STICKER_EDGE)


def _check_kind(kind: MediaKind, seen: Probe) -> None:
    if kind in (MediaKind.DOCUMENT, MediaKind.STICKER) or seen.kind is kind:
        return
    raise MediaUnsuitable(
        f"The file cannot be sent as {kind.value}: it is {seen.mime_type}. Send it as a document."
    )


def _media(
    wanted: Wanted,
    file: Uploaded,
    seen: Probe,
    voice: VoiceNote | None,
    *,
    mime_type: str,
    name: str | None,
) -> Media:
    if voice is not None:
        return Media(
            kind="audio",
            file=file,
            mime_type=mime_type,
            voice_note=True,
            seconds=voice.seconds,
            waveform=voice.waveform,
        )
    return Media(
        kind=wanted.kind.value,
        file=file,
        mime_type=mime_type,
        file_name=(name or "file") if wanted.kind is MediaKind.DOCUMENT else None,
        seconds=round(seen.duration_s) if seen.duration_s is not None else None,
        width=seen.width,
        height=seen.height,
        thumbnail=seen.thumbnail,
        animated=wanted.kind is MediaKind.STICKER and seen.animated,
    )


def _voice_facts(voice: VoiceNote) -> dict[str, Any]:
    return {"duration_s": voice.seconds, "waveform": list(voice.waveform)}


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

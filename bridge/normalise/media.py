"""Files: images, videos, voice notes, documents, stickers."""

from __future__ import annotations

from typing import Literal

from bridge.normalise.fields import Fields, blob, flag, known, label, text, whole
from bridge.normalise.rows import AttachmentPart

Kind = Literal["image", "video", "audio", "document", "sticker"]

KINDS: dict[str, Kind] = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
}
_KEYS = ("directPath", "mediaKey", "fileEncSHA256", "fileSHA256", "fileLength", "URL")
_MAX_KEY_CHARS = 4_000
_MAX_THUMBNAIL_CHARS = 100_000
_WAVEFORM_BARS = 64


def attachment_of(kind: Kind, body: Fields) -> AttachmentPart:
    """The file of a message, and what is needed to fetch it."""
    sha256 = blob(body, "fileSHA256")
    preview = "pngThumbnail" if kind == "sticker" else "JPEGThumbnail"
    thumbnail = body.get(preview) if blob(body, preview) else None
    return AttachmentPart(
        kind=kind,
        mime_type=label(body, "mimetype"),
        file_name=_file_name(body) if kind == "document" else None,
        size_bytes=whole(body, "fileLength", most=2**53),
        sha256=sha256.hex() if sha256 and len(sha256) == 32 else None,
        width=whole(body, "width") or None,
        height=whole(body, "height") or None,
        duration_s=whole(body, "seconds"),
        waveform=_waveform(body),
        thumbnail=thumbnail if thumbnail and len(thumbnail) <= _MAX_THUMBNAIL_CHARS else None,
        media={
            name: body[name]
            for name in _KEYS
            if isinstance(body.get(name), str) and len(body[name]) <= _MAX_KEY_CHARS
        }
        or None,
    )


def conteudo_of(kind: Kind, body: Fields) -> str | None:
    """The caption; of a document without one its file name."""
    caption = text(body, "caption")
    return caption or (_file_name(body) if kind == "document" else None)


def payload_of(name: str, kind: Kind, body: Fields) -> Fields:
    """What is particular to a kind of file."""
    return known(
        voice_note=kind == "audio" and flag(body, "PTT"),
        gif=flag(body, "gifPlayback"),
        round=name == "ptvMessage",
        animated=flag(body, "isAnimated") or flag(body, "isLottie"),
        pages=whole(body, "pageCount") if kind == "document" else None,
        view_once=flag(body, "viewOnce"),
    )


def _file_name(body: Fields) -> str | None:
    return label(body, "fileName", "title")


def _waveform(body: Fields) -> list[int] | None:
    bars = blob(body, "waveform")
    return [min(bar, 100) for bar in bars[:_WAVEFORM_BARS]] if bars else None

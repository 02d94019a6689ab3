"""How large a file of each kind may be, as data that an account's settings override.

WhatsApp's own numbers differ by client and year. The ceiling is the 2 GB that its apps accept for
a document; its business API stops at 5 MB for an image, 16 MB for audio and video, 100 MB for a
document, 100 kB for a sticker and 500 kB for one that moves. The defaults stand between the two:
what the apps of ordinary people still accept and show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Self

from bridge.errors import BridgeError, CommandError

MIB = 1024 * 1024
WHATSAPP_MAX_BYTES = 2048 * MIB
"""No setting lifts a limit over this: WhatsApp's servers refuse more."""


class MediaKind(StrEnum):
    """How WhatsApp shows a file. The names equal `messages.tipo`."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STICKER = "sticker"


class MediaTooLarge(CommandError):
    """The file, or what its server says of it, is over the limit of its kind."""

    code = "media_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The file is larger than the {_spoken(limit_bytes)} allowed for a file of its kind."
        )
        self.limit_bytes = limit_bytes


class LimitInvalid(BridgeError):
    """A limit in the settings is no number of bytes between 1 and WhatsApp's maximum."""

    code = "media_limit_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """The largest accepted size by kind, in bytes; a file of exactly that size passes."""

    image_bytes: int = 16 * MIB
    video_bytes: int = 100 * MIB
    audio_bytes: int = 16 * MIB
    document_bytes: int = 100 * MIB
    sticker_bytes: int = 1 * MIB

    def for_kind(self, kind: MediaKind) -> int:
        """The limit of one kind."""
        match kind:
            case MediaKind.IMAGE:
                return self.image_bytes
            case MediaKind.VIDEO:
                return self.video_bytes
            case MediaKind.AUDIO:
                return self.audio_bytes
            case MediaKind.DOCUMENT:
                return self.document_bytes
            case MediaKind.STICKER:
                return self.sticker_bytes

    def overridden(self, settings: Mapping[str, object]) -> Self:
        """These limits with those that the settings name, by field name; null keeps the default.

        :raises LimitInvalid: if a name is unknown or a value no possible limit.
        """
        known = {field.name for field in fields(self)}
        changes: dict[str, int] = {}
        for name, value in settings.items():
            if name not in known:
                raise LimitInvalid(f"There is no media limit named {name[:40]!r}.")
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise LimitInvalid(f"The media limit {name} must be a whole number of bytes.")
            if not 1 <= value <= WHATSAPP_MAX_BYTES:
                raise LimitInvalid(
                    f"The media limit {name} must be between 1 and {WHATSAPP_MAX_BYTES} bytes."
                )
            changes[name] = value
        return replace(self, **changes)


def _spoken(size_bytes: int) -> str:
    if size_bytes >= MIB:
        return f"{size_bytes / MIB:.4g} MB"
    return f"{size_bytes} bytes"

"""Any audio becomes a voice note, in a process of the workshop.

Always encoded anew, also if it is Opus already: what leaves was then written by our encoder, with
nothing of the source's headers in it, and plays everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from bridge.errors import CommandError
from bridge.media.jobs import ProcessLimits, Refused, Transcode, Transcoded
from bridge.media.limits import MIB, MediaTooLarge
from bridge.media.mime import VOICE_NOTE
from bridge.media.workshop import Workshop

VOICE_MAX_DURATION_S = 3600
"""An hour is 14 MB: within what WhatsApp takes for audio."""
VOICE_LIMITS = ProcessLimits(memory_bytes=512 * MIB, cpu_s=120, wall_s=180.0, output_bytes=32 * MIB)


class MediaUnreadable(CommandError):
    """The file holds no sound that can be decoded."""

    code = "media_unreadable"

    def __init__(self) -> None:
        super().__init__("The file is broken, or of a format that cannot become a voice note.")


class MediaTooLong(CommandError):
    """The recording is longer than a voice note may be."""

    code = "media_too_long"

    def __init__(self, max_duration_s: int) -> None:
        super().__init__(f"The recording is longer than {max_duration_s / 60:.4g} minutes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceNote:
    """A written voice note.

    Attributes:
        path: the file; it belongs to the caller.
        size_bytes: its size.
        seconds: what WhatsApp shows; at least 1.
        waveform: 64 bytes of 0 to 100, the bars that WhatsApp draws.
        mime_type: what WhatsApp must be told.
    """

    path: Path
    size_bytes: int
    seconds: int
    waveform: bytes
    mime_type: str = VOICE_NOTE


async def write_voice_note(
    workshop: Workshop,
    source: Path,
    target: Path,
    *,
    max_source_bytes: int = 64 * MIB,
    max_duration_s: int = VOICE_MAX_DURATION_S,
    limits: ProcessLimits = VOICE_LIMITS,
) -> VoiceNote:
    """Turn the sound in `source` (of a film, too) into a voice note in `target`.

    When it fails, no `target` is left.

    :raises MediaTooLarge: if the source has more bytes than allowed.
    :raises MediaTooLong: if more sound comes out of it than allowed.
    :raises MediaUnreadable: if no sound comes out of it, or its decoder failed.
    """
    if await to_thread.run_sync(_size_of, source) > max_source_bytes:
        raise MediaTooLarge(max_source_bytes)
    written = False
    try:
        answer = await workshop.run(
            Transcode(
                source=str(source),
                target=str(target),
                max_duration_s=max_duration_s,
                limits=limits,
            )
        )
        match answer:
            case Transcoded():
                size_bytes = await to_thread.run_sync(_size_of, target)
                written = True
                return VoiceNote(
                    path=target,
                    size_bytes=size_bytes,
                    seconds=max(1, round(answer.duration_s)),
                    waveform=bytes(min(100, bar) for bar in answer.waveform),
                )
            case Refused(code="media_too_long"):
                raise MediaTooLong(max_duration_s)
            case _:
                raise MediaUnreadable
    finally:
        if not written:
            target.unlink(missing_ok=True)  # noqa: ASYNC240 - also when cancelled: no await here


def _size_of(path: Path) -> int:
    return path.stat().st_size

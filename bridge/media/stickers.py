"""Any picture becomes a sticker, in a process of the workshop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from bridge.errors import CommandError
from bridge.media.jobs import MakeSticker, ProcessLimits, Refused, Stuck
from bridge.media.limits import MIB
from bridge.media.probe import MAX_PIXELS
from bridge.media.workshop import Workshop

STICKER_EDGE = 512
STICKER_MAX_BYTES = 100 * 1024
MOVING_STICKER_MAX_BYTES = 500 * 1024
"""What WhatsApp's apps take: 512 by 512 pixels, 100 kB; 500 kB if it moves."""
STICKER_LIMITS = ProcessLimits(cpu_s=60, wall_s=90.0, output_bytes=MIB)


class StickerImpossible(CommandError):
    """The picture cannot become a sticker."""

    code = "media_unsuitable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sticker:
    """A written sticker."""

    size_bytes: int
    animated: bool


async def write_sticker(
    workshop: Workshop, source: Path, target: Path, *, limits: ProcessLimits = STICKER_LIMITS
) -> Sticker:
    """Turn the picture in `source` into a sticker in `target`.

    When it fails, `target` may be there in part; it belongs to the caller.

    :raises StickerImpossible: if the picture is broken, too large, or does not become small enough.
    """
    answer = await workshop.run(
        MakeSticker(
            source=str(source),
            target=str(target),
            edge=STICKER_EDGE,
            max_pixels=MAX_PIXELS,
            max_bytes=STICKER_MAX_BYTES,
            moving_max_bytes=MOVING_STICKER_MAX_BYTES,
            limits=limits,
        )
    )
    match answer:
        case Stuck():
            size_bytes = await to_thread.run_sync(lambda: target.stat().st_size)
            return Sticker(size_bytes=size_bytes, animated=answer.animated)
        case Refused(code="media_too_large"):
            raise StickerImpossible("The picture does not become small enough for a sticker.")
        case Refused(code="image_too_many_pixels"):
            raise StickerImpossible("The picture has too many pixels for a sticker.")
        case _:
            raise StickerImpossible("The picture is broken, or too much work for a sticker.")

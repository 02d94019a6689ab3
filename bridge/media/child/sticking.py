"""Any picture becomes a sticker: a square WebP with a transparent ground, still or moving.

Only what is to be seen gets into it: nothing that the source says beside its pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps, ImageSequence

from bridge.media.child.looking import PICTURE_FORMATS, UNREADABLE
from bridge.media.jobs import MakeSticker, Refused, Stuck

LONGEST_MS = 10_000
SHORTEST_FRAME_MS = 66
"""Of a moving one ten seconds are kept, with at most 15 pictures a second."""
ATTEMPTS = ((80, 1), (50, 1), (30, 2), (15, 3))
"""Quality, and every how manieth picture is kept: the first that is small enough is taken."""

Frame = tuple[Image.Image, int]
"""A picture, and for how many milliseconds it is shown."""


def make_sticker(job: MakeSticker) -> Stuck | Refused:
    """Write the sticker."""
    try:
        with Image.open(job.source, formats=PICTURE_FORMATS) as picture:
            if picture.width * picture.height > job.max_pixels:
                return Refused(code="image_too_many_pixels")
            frames = list(_frames(picture, job.edge))
    except UNREADABLE:
        return Refused(code="media_unreadable")
    moves = len(frames) > 1
    most_bytes = job.moving_max_bytes if moves else job.max_bytes
    for quality, stride in ATTEMPTS:
        data = _encoded(_thinned(frames, stride), quality)
        if len(data) <= most_bytes:
            Path(job.target).write_bytes(data)
            return Stuck(animated=moves)
    return Refused(code="media_too_large")


def _frames(picture: Image.Image, edge: int) -> Iterator[Frame]:
    """What is to be seen, one after another; short pictures are shown with the next one."""
    if picture.format == "TIFF" or not getattr(picture, "is_animated", False):
        picture.draft("RGB", (edge * 2, edge * 2))
        yield _square(picture, edge), 0
        return
    shown_ms = waiting_ms = 0
    for each in ImageSequence.Iterator(picture):
        waiting_ms += max(1, int(each.info.get("duration") or 100))
        if waiting_ms < SHORTEST_FRAME_MS:
            continue
        yield _square(each, edge), waiting_ms
        shown_ms += waiting_ms
        waiting_ms = 0
        if shown_ms >= LONGEST_MS:
            return
    if not shown_ms:
        yield _square(picture, edge), SHORTEST_FRAME_MS


def _square(picture: Image.Image, edge: int) -> Image.Image:
    upright = ImageOps.exif_transpose(picture).convert("RGBA")
    fitted = ImageOps.contain(upright, (edge, edge), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (edge, edge), (0, 0, 0, 0))
    square.paste(fitted, ((edge - fitted.width) // 2, (edge - fitted.height) // 2))
    return square


def _thinned(frames: list[Frame], stride: int) -> list[Frame]:
    groups = [frames[first : first + stride] for first in range(0, len(frames), stride)]
    return [(group[0][0], sum(shown_ms for _, shown_ms in group)) for group in groups]


def _encoded(frames: list[Frame], quality: int) -> bytes:
    buffer = io.BytesIO()
    first, *others = [picture for picture, _ in frames]
    if others:
        first.save(
            buffer,
            "WEBP",
            quality=quality,
            method=2,
            save_all=True,
            append_images=others,
            duration=[shown_ms for _, shown_ms in frames],
            loop=0,
        )
    else:
        first.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()

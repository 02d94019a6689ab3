"""What a file is, found out by content, in a process of the workshop.

Unknown is a document, and so is a picture or film that cannot be read: it can still be stored and
sent, as bytes. `problem` then says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge.media.jobs import Look, ProcessLimits, Seen
from bridge.media.limits import MediaKind
from bridge.media.mime import believed_type
from bridge.media.workshop import Workshop

LOOK_LIMITS = ProcessLimits(cpu_s=20, wall_s=30.0, output_bytes=0)
MAX_PIXELS = 100_000_000
"""A phone's largest photograph; as colours in memory it takes 400 MB, within a job's limit."""
THUMBNAIL_EDGE = 200
THUMBNAIL_MAX_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is known of a file.

    Attributes:
        kind: image, video, audio or document; never sticker, which is a way of sending an image.
        mime_type: without parameters; fit to be the content type of a stored object.
        width: pixels, as seen upright.
        height: pixels, as seen upright.
        duration_s: what a film or recording says of itself; not measured.
        thumbnail: JPEG of at most 200 by 200 pixels and 16 kB.
        animated: it moves.
        problem: why it is only a document: media_unreadable, image_too_many_pixels.
    """

    kind: MediaKind
    mime_type: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    thumbnail: bytes | None = None
    animated: bool = False
    problem: str | None = None


async def probe(
    workshop: Workshop,
    path: Path,
    *,
    declared: str | None = None,
    file_name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    limits: ProcessLimits = LOOK_LIMITS,
) -> Probe:
    """Look into a file. Never fails for what is in it.

    :param declared: the type that its sender or server gave; heard where content leaves it open.
    :param file_name: its extension is heard likewise.
    """
    answer = await workshop.run(
        Look(
            path=str(path),
            declared=(declared or "")[:200],
            file_name=(file_name or "")[-200:],
            max_pixels=max_pixels,
            thumbnail_edge=THUMBNAIL_EDGE,
            thumbnail_max_bytes=THUMBNAIL_MAX_BYTES,
            limits=limits,
        )
    )
    if not isinstance(answer, Seen):
        return Probe(
            kind=MediaKind.DOCUMENT,
            mime_type=believed_type(None, declared=declared, file_name=file_name),
            problem="media_unreadable",
        )
    return Probe(
        kind=answer.kind,
        mime_type=answer.mime_type,
        width=answer.width,
        height=answer.height,
        duration_s=answer.duration_s,
        thumbnail=answer.thumbnail,
        animated=answer.animated,
        problem=answer.problem,
    )

"""What a file is: its type by content, its size in pixels, its duration, a small picture of it."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image, ImageOps

import pylibmagic  # noqa: F401 # isort: skip - before magic, which else loads the machine's own
import magic  # isort: skip

from bridge.media.child.demuxing import VIDEO_DECODERS, open_media
from bridge.media.jobs import Look, Seen
from bridge.media.limits import MediaKind
from bridge.media.mime import (
    OCTETS,
    bare_type,
    believed_type,
    type_of_extension,
)

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
PICTURE_TYPES = frozenset(f"image/{name.lower()}" for name in PICTURE_FORMATS)
STREAM_TYPES = frozenset({"application/ogg", "application/vnd.rn-realmedia"})
FIRST_FRAME_PACKETS = 600
LONGEST_S = 10_000_000.0
QUALITIES = (80, 65, 50, 35, 20)

# Pillow raises whatever its parsers stumble over.
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    av.error.FFmpegError,
)

Image.MAX_IMAGE_PIXELS = None  # the limit is the job's, and holds exactly
_magic = magic.Magic(mime=True)


def look(job: Look) -> Seen:
    """Answer the job; a file that cannot be understood is a document."""
    path = Path(job.path)
    content = _type_by_content(path)
    if content in PICTURE_TYPES:
        return _looked_at_picture(path, content, job)
    claims = (bare_type(job.declared), type_of_extension(job.file_name))
    if _may_be_stream(content, claims):
        return _looked_at_streams(path, content, claims, job)
    believed = believed_type(content, declared=job.declared, file_name=job.file_name)
    return Seen(kind=MediaKind.DOCUMENT, mime_type=believed)


def _type_by_content(path: Path) -> str:
    try:
        found = bare_type(_magic.from_file(str(path))) or OCTETS
    except (magic.MagicException, UnicodeDecodeError):
        return OCTETS
    return OCTETS if found.startswith("inode/") else found  # an empty file is an "inode/x-empty"


def _looked_at_picture(path: Path, content: str, job: Look) -> Seen:
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            mime_type = bare_type(picture.get_format_mimetype()) or content
            if mime_type not in PICTURE_TYPES:
                mime_type = content  # several pictures in one JPEG have a type nobody knows
            width, height = picture.size
            if width * height > job.max_pixels:
                return Seen(
                    kind=MediaKind.DOCUMENT,
                    mime_type=mime_type,
                    width=width,
                    height=height,
                    problem="image_too_many_pixels",
                )
            animated = bool(getattr(picture, "is_animated", False)) and mime_type != "image/tiff"
            if picture.getexif().get(0x0112) in {5, 6, 7, 8}:  # Orientation: lies on its side
                width, height = height, width
            picture.draft("RGB", (job.thumbnail_edge * 2, job.thumbnail_edge * 2))
            if picture.mode in {"P", "1"}:
                small: Image.Image = picture.convert("RGBA")
            else:
                small = picture
            small.thumbnail((job.thumbnail_edge, job.thumbnail_edge))
            small = ImageOps.exif_transpose(small)
            return Seen(
                kind=MediaKind.IMAGE,
                mime_type=mime_type,
                width=width,
                height=height,
                animated=animated,
                thumbnail=_jpeg(small, job.thumbnail_max_bytes),
            )
    except UNREADABLE:
        return Seen(kind=MediaKind.DOCUMENT, mime_type=content, problem="media_unreadable")


def _may_be_stream(content: str, claims: Sequence[str | None]) -> bool:
    if content.startswith(("audio/", "video/")) or content in STREAM_TYPES:
        return True
    # An mp3 without a tag has no signature; noise may look like one. So only if it was claimed.
    return content == OCTETS and any(claim and _is_stream_type(claim) for claim in claims)


def _is_stream_type(mime_type: str) -> bool:
    return mime_type.startswith(("audio/", "video/"))


def _looked_at_streams(path: Path, content: str, claims: Sequence[str | None], job: Look) -> Seen:
    named = content
    if not _is_stream_type(named):
        named = next((claim for claim in claims if claim and _is_stream_type(claim)), "audio/ogg")
    unreadable = Seen(kind=MediaKind.DOCUMENT, mime_type=content, problem="media_unreadable")
    try:
        with path.open("rb") as file, open_media(file) as container:
            film = _film_of(container)
            duration_s = _duration_of(container)
            if film is not None:
                return _looked_at_film(container, film, duration_s, named, file, job)
            if not container.streams.audio:
                return unreadable
    except UNREADABLE:
        return unreadable
    return Seen(
        kind=MediaKind.AUDIO,
        mime_type=_renamed(named, "audio"),
        duration_s=duration_s,
    )


def _film_of(container: InputContainer) -> VideoStream | None:
    """The moving picture; the cover of an album is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _duration_of(container: InputContainer) -> float | None:
    """What the file says, if it can be true."""
    said = [(container.duration, Fraction(1, av.time_base))]
    said += [
        (stream.duration, stream.time_base or Fraction(0))
        for stream in (*container.streams.video, *container.streams.audio)
    ]
    for duration, unit in said:
        seconds = float(duration * unit) if duration is not None else 0.0
        if 0 < seconds < LONGEST_S:
            return round(seconds, 3)
    return None


def _looked_at_film(
    container: InputContainer,
    film: VideoStream,
    duration_s: float | None,
    named: str,
    file: BinaryIO,
    job: Look,
) -> Seen:
    width, height = film.codec_context.width, film.codec_context.height
    if not (0 < width <= 65_535 and 0 < height <= 65_535) or width * height > job.max_pixels:
        return Seen(
            kind=MediaKind.DOCUMENT, mime_type=_renamed(named, "video"), problem="media_unreadable"
        )
    thumbnail = None
    try:
        small, turn = _first_frame(container, film, job)
    except UNREADABLE:  # sizes and duration were in the head; only the picture is missing
        turn = 0
    else:
        thumbnail = _jpeg(small, job.thumbnail_max_bytes)
    if turn % 180 == 90:
        width, height = height, width
    return Seen(
        kind=MediaKind.VIDEO,
        mime_type=_renamed(named, "video"),
        width=width,
        height=height,
        duration_s=duration_s,
        thumbnail=thumbnail,
        animated=True,
    )


def _first_frame(
    container: InputContainer, film: VideoStream, job: Look
) -> tuple[Image.Image, int]:
    """The first whole picture, small and upright, and by how many degrees it was turned.

    :raises ValueError: if none comes early enough, or its decoder is none of ours.
    """
    if film.codec_context.codec.name not in VIDEO_DECODERS:
        raise ValueError(film.codec_context.codec.name)
    film.codec_context.thread_count = 1
    film.codec_context.skip_frame = "NONKEY"
    for count, packet in enumerate(container.demux(film)):
        if count > FIRST_FRAME_PACKETS:
            break
        for frame in packet.decode():
            if frame.width * frame.height > job.max_pixels:
                raise ValueError(frame.width)
            scale = min(1.0, job.thumbnail_edge / max(frame.width, frame.height))
            reduced = frame.reformat(
                width=max(1, round(frame.width * scale)),
                height=max(1, round(frame.height * scale)),
                format="rgb24",
            )
            small: Image.Image = reduced.to_image()  # type: ignore[no-untyped-call]
            return small.rotate(frame.rotation, expand=True), frame.rotation
    raise ValueError("no picture")


def _renamed(mime_type: str, family: str) -> str:
    """The type with its family corrected: a film's container may hold sound alone."""
    rest = mime_type.partition("/")[2]
    if family == "audio" and rest in {"quicktime", "x-m4v"}:
        rest = "mp4"
    return f"{family}/{rest}"


def _jpeg(picture: Image.Image, max_bytes: int) -> bytes | None:
    """The picture alone, without anything the file said beside it; None if it cannot be small."""
    flat = Image.new("RGB", picture.size, "white")
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        flat.paste(rgba, mask=rgba.getchannel("A"))
    else:
        flat.paste(picture.convert("RGB"))
    for quality in QUALITIES:
        buffer = io.BytesIO()
        flat.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
    return None

"""What the workshop's processes are asked and what they answer, as JSON frames.

An answer comes from a process that may have been taken over by the file it read. It is decoded
into these shapes, with their bounds, and nothing else of it is believed.
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec
from msgspec import Meta

from bridge.media.limits import MIB, MediaKind

JOB_MAX_BYTES = 64 * 1024
ANSWER_MAX_BYTES = 256 * 1024
LENGTH = struct.Struct(">I")
"""Before each frame, the number of bytes in it."""

Pixels = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=10_000_000)]
Mime = Annotated[str, Meta(max_length=200, pattern=r"^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+$")]


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one job may use before the kernel ends it."""

    memory_bytes: int = 1024 * MIB
    """Address space, of which the libraries take about 150 MB."""
    cpu_s: int = 60
    wall_s: float = 90.0
    output_bytes: int = 64 * MIB
    """The largest file it may write."""


class Look(msgspec.Struct, frozen=True, kw_only=True, tag="look"):
    """Say what the file is; answered by `Seen`."""

    path: str
    declared: str | None
    file_name: str | None
    max_pixels: int
    thumbnail_edge: int
    thumbnail_max_bytes: int
    limits: ProcessLimits


class Transcode(msgspec.Struct, frozen=True, kw_only=True, tag="transcode"):
    """Turn the audio in `source` into a voice note in `target`; answered by `Transcoded`."""

    source: str
    target: str
    max_duration_s: int
    limits: ProcessLimits


class MakeSticker(msgspec.Struct, frozen=True, kw_only=True, tag="make_sticker"):
    """Turn the picture in `source` into a sticker in `target`; answered by `Stuck`."""

    source: str
    target: str
    edge: int
    max_pixels: int
    max_bytes: int
    moving_max_bytes: int
    limits: ProcessLimits


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """What a look found. `problem` says why a picture or film is called a document."""

    kind: MediaKind
    mime_type: Mime
    width: Pixels | None = None
    height: Pixels | None = None
    duration_s: Seconds | None = None
    thumbnail: Annotated[bytes, Meta(max_length=128 * 1024)] | None = None
    animated: bool = False
    problem: Annotated[str, Meta(max_length=60, pattern="^[a-z_]+$")] | None = None


class Transcoded(msgspec.Struct, frozen=True, kw_only=True, tag="transcoded"):
    """The voice note is written."""

    duration_s: Seconds
    waveform: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Stuck(msgspec.Struct, frozen=True, kw_only=True, tag="stuck"):
    """The sticker is written."""

    animated: bool


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The file cannot be worked on; the code is that of an error."""

    code: Annotated[str, Meta(max_length=60, pattern="^[a-z_]+$")]


class Died(msgspec.Struct, frozen=True, kw_only=True, tag="died"):
    """The process of this job ended without an answer: a crash, or a limit."""

    status: int


Job = Look | Transcode | MakeSticker
Answer = Seen | Transcoded | Stuck | Refused | Died

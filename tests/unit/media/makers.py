"""Makes the media files that tests look at: small, real, and broken in chosen ways."""

from __future__ import annotations

import array
import io
import math
import struct
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image


def picture(name: str, *, size: tuple[int, int] = (64, 32), **save: object) -> bytes:
    """Left half red, right half blue, in the format of that name."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return saved(image, name, **save)


def saved(image: Image.Image, name: str, **save: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **save)
    return buffer.getvalue()


def oriented_jpeg(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture("JPEG", exif=exif, quality=95)


def moving(name: str) -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    return saved(frames[0], name, save_all=True, append_images=frames[1:], duration=100)


def animation_that_claims(name: str, width: int, height: int) -> bytes:
    """Three small pictures on a ground that is said to be that large."""
    data = bytearray(moving(name))
    if name == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    else:
        at = data.index(b"VP8X") + 12
        data[at : at + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def archive_bomb(depth: int = 3) -> bytes:
    """A few kilobytes that unpack to gigabytes."""
    inner = bytes(10_000_000)
    for level in range(depth):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for copy in range(1 if level == 0 else 10):
                archive.writestr(f"{copy}.zip", inner)
        inner = buffer.getvalue()
    return inner


def png_that_claims(width: int, height: int) -> bytes:
    """A few bytes that unpack to width times height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def film(
    path: Path, *, codec: str = "mpeg4", container: str = "mp4", size: tuple[int, int] = (64, 32)
) -> Path:
    """A second of red and blue, without sound."""
    image = Image.open(io.BytesIO(picture("PNG", size=size)))
    with av.open(str(path), mode="w", format=container) as target:
        stream = target.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for _ in range(10):
            target.mux(stream.encode(av.VideoFrame.from_image(image)))
        target.mux(stream.encode(None))
    return path


def turned_film(path: Path) -> Path:
    """The film as a phone held upright writes it: lying, with a matrix that turns it by 90°."""
    data = bytearray(film(path).read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    quarter = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    data[matrix : matrix + 36] = struct.pack(">9i", *quarter)
    path.write_bytes(data)
    return path


def sound(
    path: Path,
    *,
    codec: str = "pcm_s16le",
    container: str = "wav",
    seconds: float = 2.0,
    rate: int = 44_100,
    layout: str = "stereo",
    loud: float = 0.5,
) -> Path:
    """A tone in the first half, silence in the second."""
    with av.open(str(path), mode="w", format=container) as target:
        stream = target.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        resampler = av.AudioResampler(
            format=stream.codec_context.format.name,
            layout=layout,
            rate=rate,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        total = int(seconds * rate)
        for first in range(0, total, 4800):
            count = min(4800, total - first)
            samples = array.array(
                "h",
                (
                    int(32_767 * loud * math.sin(2 * math.pi * 440 * n / rate))
                    if n < total // 2
                    else 0
                    for n in range(first, first + count)
                ),
            )
            frame = av.AudioFrame(format="s16", layout="mono", samples=count)
            frame.planes[0].update(samples.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate = rate
            frame.pts = first
            frame.time_base = Fraction(1, rate)
            for part in resampler.resample(frame):
                target.mux(stream.encode(part))
        for part in resampler.resample(None):
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    return path

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bridge.media.limits import MediaKind
from bridge.media.probe import THUMBNAIL_MAX_BYTES, Probe, probe
from bridge.media.workshop import Workshop
from tests.unit.media import makers

pytestmark = pytest.mark.anyio


async def probed(
    workshop: Workshop,
    folder: Path,
    data: bytes,
    *,
    declared: str | None = None,
    file_name: str | None = None,
) -> Probe:
    path = folder / "file"
    path.write_bytes(data)
    return await probe(workshop, path, declared=declared, file_name=file_name)


def colours(thumbnail: bytes | None) -> list[str]:
    """What is at the left, right, top and bottom of the picture."""
    assert thumbnail is not None
    image = Image.open(io.BytesIO(thumbnail)).convert("RGB")
    width, height = image.size
    found = []
    for x, y in (
        (2, height // 2),
        (width - 3, height // 2),
        (width // 2, 2),
        (width // 2, height - 3),
    ):
        pixel = image.getpixel((x, y))
        assert isinstance(pixel, tuple)
        found.append("red" if pixel[0] > pixel[2] else "blue")
    return found


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF"])
async def test_a_picture_is_known_by_content(workshop: Workshop, folder: Path, name: str) -> None:
    seen = await probed(workshop, folder, makers.picture(name), declared="text/html")
    assert (seen.kind, seen.mime_type) == (MediaKind.IMAGE, f"image/{name.lower()}")
    assert (seen.width, seen.height, seen.animated) == (64, 32, False)
    assert colours(seen.thumbnail)[:2] == ["red", "blue"]


@pytest.mark.parametrize("name", ["GIF", "WEBP"])
async def test_a_picture_that_moves_is_said_to(workshop: Workshop, folder: Path, name: str) -> None:
    assert (await probed(workshop, folder, makers.moving(name))).animated


@pytest.mark.parametrize(
    ("orientation", "size", "expected"),
    [
        (1, (64, 32), ["red", "blue"]),
        (3, (64, 32), ["blue", "red"]),
        (6, (32, 64), ["red", "blue"]),  # top, bottom
        (8, (32, 64), ["blue", "red"]),
    ],
)
async def test_a_photograph_is_seen_upright(
    workshop: Workshop,
    folder: Path,
    orientation: int,
    size: tuple[int, int],
    expected: list[str],
) -> None:
    seen = await probed(workshop, folder, makers.oriented_jpeg(orientation))
    assert (seen.width, seen.height) == size
    found = colours(seen.thumbnail)
    assert (found[:2] if size[0] > size[1] else found[2:]) == expected


async def test_a_thumbnail_is_small_and_holds_nothing_but_the_picture(
    workshop: Workshop, folder: Path
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    noise = Image.effect_noise((1500, 1000), 200).convert("RGB")
    photo = makers.saved(noise, "JPEG", exif=exif, comment=b"and who I am", quality=70)
    seen = await probed(workshop, folder, photo)
    assert seen.thumbnail is not None
    assert len(seen.thumbnail) <= THUMBNAIL_MAX_BYTES
    assert max(Image.open(io.BytesIO(seen.thumbnail)).size) == 200
    assert b"where I live" not in seen.thumbnail
    assert b"who I am" not in seen.thumbnail


async def test_a_transparent_picture_has_a_white_ground(workshop: Workshop, folder: Path) -> None:
    clear = makers.saved(Image.new("RGBA", (20, 20), (0, 0, 0, 0)), "PNG")
    seen = await probed(workshop, folder, clear)
    assert seen.thumbnail is not None
    assert Image.open(io.BytesIO(seen.thumbnail)).getpixel((5, 5)) == (255, 255, 255)


async def test_a_bomb_of_pixels_is_a_document_and_never_unpacked(
    workshop: Workshop, folder: Path
) -> None:
    bomb = makers.png_that_claims(60_000, 60_000)
    assert len(bomb) < 20_000
    seen = await probed(workshop, folder, bomb)
    assert seen.kind is MediaKind.DOCUMENT
    assert seen.mime_type == "image/png"
    assert seen.problem == "image_too_many_pixels"
    assert seen.thumbnail is None


@pytest.mark.parametrize(("name", "edge"), [("GIF", 65_535), ("WEBP", 16_383)])
async def test_an_animation_on_a_huge_ground_is_a_document_and_never_unpacked(
    workshop: Workshop, folder: Path, name: str, edge: int
) -> None:
    bomb = makers.animation_that_claims(name, edge, edge)
    assert len(bomb) < 20_000
    seen = await probed(workshop, folder, bomb)
    assert seen.kind is MediaKind.DOCUMENT
    assert seen.problem in ("image_too_many_pixels", "media_unreadable")


@pytest.mark.parametrize("pack", [makers.archive_bomb, lambda: gzip.compress(bytes(50_000_000))])
async def test_an_archive_is_never_unpacked(
    workshop: Workshop, folder: Path, pack: Callable[[], bytes]
) -> None:
    bomb = pack()
    seen = await probed(workshop, folder, bomb)
    assert seen.kind is MediaKind.DOCUMENT
    assert seen.mime_type in ("application/zip", "application/gzip")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF"])
async def test_half_a_picture_is_a_document(workshop: Workshop, folder: Path, name: str) -> None:
    whole = makers.picture(name, size=(400, 300))
    seen = await probed(workshop, folder, whole[: len(whole) // 2])
    assert seen.kind is MediaKind.DOCUMENT
    assert seen.mime_type == f"image/{name.lower()}"
    assert seen.problem == "media_unreadable"


@pytest.mark.parametrize(
    ("codec", "container", "mime_type"),
    [
        ("mpeg4", "mp4", "video/mp4"),
        ("mpeg4", "3gp", "video/3gpp"),
        ("mpeg4", "mov", "video/quicktime"),
        ("libvpx", "webm", "video/webm"),
        ("mpeg4", "matroska", "video/x-matroska"),
    ],
)
async def test_a_film_has_size_duration_and_a_picture(
    workshop: Workshop, tmp_path: Path, codec: str, container: str, mime_type: str
) -> None:
    path = makers.film(tmp_path / "film", codec=codec, container=container)
    seen = await probe(workshop, path)
    assert (seen.kind, seen.mime_type) == (MediaKind.VIDEO, mime_type)
    assert (seen.width, seen.height) == (64, 32)
    assert seen.duration_s == pytest.approx(1.0, abs=0.1)
    assert colours(seen.thumbnail)[:2] == ["red", "blue"]


async def test_a_film_taken_upright_is_seen_upright(workshop: Workshop, tmp_path: Path) -> None:
    seen = await probe(workshop, makers.turned_film(tmp_path / "film"))
    assert (seen.width, seen.height) == (32, 64)
    assert colours(seen.thumbnail)[2:] == ["red", "blue"]


async def test_half_a_film_is_a_document(workshop: Workshop, tmp_path: Path) -> None:
    path = makers.film(tmp_path / "film")
    path.write_bytes(path.read_bytes()[:400])
    seen = await probe(workshop, path, declared="video/mp4")
    assert seen.kind is MediaKind.DOCUMENT
    assert seen.problem == "media_unreadable"


@pytest.mark.parametrize(
    ("codec", "container", "mime_type"),
    [
        ("pcm_s16le", "wav", "audio/wav"),
        ("libmp3lame", "mp3", "audio/mpeg"),
        ("aac", "ipod", "audio/mp4"),
        ("libopus", "ogg", "audio/ogg"),
        ("libopus", "webm", "audio/webm"),
        ("flac", "flac", "audio/flac"),
    ],
)
async def test_sound_alone_is_audio_whatever_holds_it(
    workshop: Workshop, tmp_path: Path, codec: str, container: str, mime_type: str
) -> None:
    path = makers.sound(
        tmp_path / "sound", codec=codec, container=container, seconds=1, rate=48_000
    )
    seen = await probe(workshop, path)
    assert (seen.kind, seen.mime_type) == (MediaKind.AUDIO, mime_type)
    assert seen.duration_s == pytest.approx(1.0, abs=0.1)
    assert seen.thumbnail is None


async def test_documents_are_told_apart_as_far_as_they_can_be(
    workshop: Workshop, folder: Path
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("anything", "else")
    for data, claims, mime_type in (
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", {}, "application/pdf"),
        (b"a;b\n1;2\n", {"file_name": "orders.csv"}, "text/csv"),
        (b"plain words\n", {}, "text/plain"),
        (packed.getvalue(), {}, "application/zip"),
        (
            packed.getvalue(),
            {"file_name": "table.XLSX"},
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
        (b"\x00\x01\x02\x03" * 9, {"declared": "text/html"}, "application/octet-stream"),
        (b"plain words\n", {"declared": "text/html", "file_name": "a.html"}, "text/plain"),
        (b"", {"declared": "image/png"}, "application/octet-stream"),
    ):
        seen = await probed(workshop, folder, data, **claims)
        assert (seen.kind, seen.mime_type) == (MediaKind.DOCUMENT, mime_type)
        assert seen.problem is None


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inside}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {inside}\n",
        "<svg xmlns='http://www.w3.org/2000/svg'><image href='{inside}'/></svg>",
    ],
)
async def test_a_file_that_names_others_does_not_open_them(
    workshop: Workshop, tmp_path: Path, script: str
) -> None:
    inside = makers.film(tmp_path / "inside.mp4")
    path = tmp_path / "playlist.mp4"
    path.write_text(script.format(inside=inside))
    seen = await probe(workshop, path, declared="video/mp4", file_name="playlist.mp4")
    assert seen.kind is MediaKind.DOCUMENT
    assert seen.duration_s is None


HEADS = [
    *(makers.picture(name)[:60] for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")),
    b"\x00\x00\x00\x20ftypisom",
    b"\x1a\x45\xdf\xa3",
    b"OggS\x00\x02",
    b"RIFF\x24\x00\x00\x00WAVEfmt ",
    b"ID3\x03\x00",
    b"fLaC",
    b"#!AMR\n",
    b"PK\x03\x04",
    b"",
]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=400), claim=st.text(max_size=20))
async def test_any_bytes_are_something(
    workshop: Workshop, folder: Path, head: bytes, tail: bytes, claim: str
) -> None:
    seen = await probed(workshop, folder, head + tail, declared=claim, file_name=claim)
    assert seen.mime_type.count("/") == 1

from __future__ import annotations

from pathlib import Path

import av
import pytest

from bridge.errors import CommandError
from bridge.media.voice import write_voice_note
from bridge.media.workshop import Workshop
from tests.unit.media import makers

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("codec", "container", "rate", "layout"),
    [
        ("pcm_s16le", "wav", 44_100, "stereo"),
        ("libmp3lame", "mp3", 44_100, "stereo"),
        ("aac", "ipod", 44_100, "mono"),
        ("libopus", "webm", 48_000, "stereo"),
        ("libopus", "ogg", 48_000, "mono"),
        ("libopencore_amrnb", "amr", 8_000, "mono"),
        ("flac", "flac", 96_000, "5.1"),
    ],
)
async def test_any_sound_becomes_opus_mono_at_48_khz(
    workshop: Workshop, tmp_path: Path, codec: str, container: str, rate: int, layout: str
) -> None:
    source = makers.sound(
        tmp_path / "sound", codec=codec, container=container, rate=rate, layout=layout
    )
    note = await write_voice_note(workshop, source, tmp_path / "note.ogg")
    assert note.seconds == 2
    assert note.mime_type == "audio/ogg; codecs=opus"
    assert note.size_bytes == note.path.stat().st_size
    with av.open(str(note.path)) as written:
        (stream,) = written.streams
        assert isinstance(stream, av.AudioStream)
        assert written.format.name == "ogg"
        assert stream.codec_context.name in {"opus", "libopus"}
        assert (stream.codec_context.sample_rate, stream.codec_context.channels) == (48_000, 1)
        samples = sum(frame.samples for frame in written.decode(audio=0))
    assert samples / 48_000 == pytest.approx(2.0, abs=0.15)


async def test_the_waveform_draws_what_is_heard(workshop: Workshop, tmp_path: Path) -> None:
    source = makers.sound(tmp_path / "sound")
    note = await write_voice_note(workshop, source, tmp_path / "note.ogg")
    assert len(note.waveform) == 64
    assert max(note.waveform) == 100
    assert min(note.waveform[:31]) > 90
    assert max(note.waveform[33:]) < 5


async def test_silence_is_drawn_flat_and_lasts_a_second(workshop: Workshop, tmp_path: Path) -> None:
    source = makers.sound(tmp_path / "sound", seconds=0.1, loud=0)
    note = await write_voice_note(workshop, source, tmp_path / "note.ogg")
    assert note.seconds == 1
    assert note.waveform == bytes(64)


async def refusal(workshop: Workshop, source: Path, **limits: int) -> CommandError:
    target = source.with_name("note.ogg")
    with pytest.raises(CommandError) as caught:
        await write_voice_note(workshop, source, target, **limits)  # type: ignore[arg-type]
    assert not target.exists()
    assert not caught.value.retryable
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 5000,
        bytes(range(256)) * 50,
        b"ID3\x03\x00\x00\x00\x00\x00\x00" + b"\xff" * 500,
        b"OggS" + b"\x00" * 300,
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00",
        makers.picture("PNG"),
        b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
    ],
    ids=["empty", "zeros", "bytes", "mp3", "ogg", "wav", "picture", "playlist"],
)
async def test_garbage_is_unreadable(workshop: Workshop, tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "sound"
    source.write_bytes(data)
    assert (await refusal(workshop, source)).code == "media_unreadable"


async def test_a_film_without_sound_is_unreadable(workshop: Workshop, tmp_path: Path) -> None:
    source = makers.film(tmp_path / "film")
    assert (await refusal(workshop, source)).code == "media_unreadable"


async def test_a_truncated_recording_is_kept_as_far_as_it_goes(
    workshop: Workshop, tmp_path: Path
) -> None:
    source = makers.sound(tmp_path / "sound", codec="libmp3lame", container="mp3")
    source.write_bytes(source.read_bytes()[:-5000])
    note = await write_voice_note(workshop, source, tmp_path / "note.ogg")
    assert 1 <= note.seconds <= 2


async def test_sound_that_unpacks_to_hours_is_cut_off(workshop: Workshop, tmp_path: Path) -> None:
    source = makers.sound(
        tmp_path / "sound", codec="flac", container="flac", seconds=30, rate=8_000, loud=0
    )
    assert source.stat().st_size < 30_000
    refused = await refusal(workshop, source, max_duration_s=6)
    assert refused.code == "media_too_long"
    assert "0.1 minutes" in refused.sentence


async def test_a_source_of_too_many_bytes_is_not_opened(workshop: Workshop, tmp_path: Path) -> None:
    source = makers.sound(tmp_path / "sound")
    refused = await refusal(workshop, source, max_source_bytes=1000)
    assert refused.code == "media_too_large"

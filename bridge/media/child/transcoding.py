"""Any audio becomes the one form of voice note that every phone plays: Opus in Ogg, mono, 48 kHz.

The clock of the source is ignored. What it decodes to is written end to end, so that a file cannot
claim an hour of silence between two sounds, and the duration is what a listener hears.
"""

from __future__ import annotations

import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from bridge.media.child.demuxing import AUDIO_DECODERS, open_media
from bridge.media.child.looking import UNREADABLE
from bridge.media.jobs import Refused, Transcode, Transcoded

RATE_HZ = 48_000
FRAME_SAMPLES = 960  # 20 ms, what WhatsApp's own recorder uses
BITS_PER_S = 32_000
OPUS = {"application": "voip", "vbr": "on", "frame_duration": "20"}

BARS = 64
LOUDEST_BAR = 100
SILENCE = 80.0
"""Average sample, of 32,768, under which a recording is drawn flat instead of amplified."""
STRIDE = 6  # every sixth sample is enough for a drawing 64 points wide

BROKEN_PACKETS_MAX = 50
CHANGES_MAX = 64


class _TooLong(ValueError):
    """More sound than allowed came out."""


def transcode(job: Transcode) -> Transcoded | Refused:
    """Write the voice note."""
    try:
        with Path(job.source).open("rb") as file, open_media(file) as source:
            return _written(source, job)
    except _TooLong:
        return Refused(code="media_too_long")
    except UNREADABLE:
        return Refused(code="media_unreadable")


def _written(source: InputContainer, job: Transcode) -> Transcoded:
    drawing = _Drawing()
    samples = 0
    with (
        Path(job.target).open("wb") as file,
        av.open(file, mode="w", format="ogg") as target,
    ):
        voice = target.add_stream("libopus", rate=RATE_HZ, options=dict(OPUS))
        voice.bit_rate = BITS_PER_S
        voice.layout = "mono"
        for frame in _mono_frames(source):
            frame.pts = samples
            frame.time_base = Fraction(1, RATE_HZ)
            samples += frame.samples
            if samples > job.max_duration_s * RATE_HZ:
                raise _TooLong
            drawing.add(frame)
            target.mux(voice.encode(frame))
        if samples == 0:
            raise ValueError("no sound")
        target.mux(voice.encode(None))
    return Transcoded(duration_s=samples / RATE_HZ, waveform=drawing.waveform())


def _mono_frames(source: InputContainer) -> Iterator[AudioFrame]:
    """The sound in frames of 20 ms, the last one shorter."""
    fifo = AudioFifo()
    for part in _resampled(source):
        part.pts = None
        fifo.write(part)
        yield from fifo.read_many(FRAME_SAMPLES)
    if fifo.samples and (rest := fifo.read(0, partial=True)) is not None:
        yield rest


def _resampled(source: InputContainer) -> Iterator[AudioFrame]:
    """A stream may change its rate or channels on the way; each change needs a new resampler."""
    resampler: AudioResampler | None = None
    before: tuple[str, str, int] | None = None
    changes = 0
    for frame in _decoded(source):
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or shape != before:
            changes += 1
            if changes > CHANGES_MAX:
                raise ValueError("changes too often")
            if resampler is not None:
                yield from resampler.resample(None)
            resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
            before = shape
        frame.pts = None
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


def _decoded(source: InputContainer) -> Iterator[AudioFrame]:
    """What the decoder makes of the first audio stream; some broken packets are left out.

    :raises ValueError: if there is no such stream, its decoder is none of ours, or it is mostly
        broken.
    """
    if not source.streams.audio:
        raise ValueError("no audio")
    stream = source.streams.audio[0]
    if stream.codec_context.codec.name not in AUDIO_DECODERS:
        raise ValueError(stream.codec_context.codec.name)
    stream.codec_context.thread_count = 1
    whole = broken = 0
    for packet in source.demux(stream):
        try:
            yield from packet.decode()
            whole += 1
        except av.error.InvalidDataError:
            broken += 1
            if broken > BROKEN_PACKETS_MAX:
                raise
    if broken > whole:
        raise ValueError("mostly broken")


class _Drawing:
    """Collects loudness every 20 ms, and draws it as WhatsApp does: 64 bars of 0 to 100."""

    def __init__(self) -> None:
        self._loudness: list[float] = []

    def add(self, frame: AudioFrame) -> None:
        samples = array.array("h")
        samples.frombytes(bytes(frame.planes[0])[: frame.samples * 2])
        some = samples[::STRIDE]
        self._loudness.append(sum(map(abs, some)) / max(1, len(some)))

    def waveform(self) -> bytes:
        count = len(self._loudness)
        bars = []
        for bar in range(BARS):
            first = bar * count // BARS
            part = self._loudness[first : max(first + 1, (bar + 1) * count // BARS)]
            bars.append(sum(part) / len(part))
        top = max(*bars, SILENCE)
        return bytes(round(LOUDEST_BAR * bar / top) for bar in bars)

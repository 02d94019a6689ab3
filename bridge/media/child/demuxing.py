"""Opening an audio or video file with FFmpeg, with the doors shut that strangers must not use.

Some of FFmpeg's formats are lists of other files and addresses, which it would open. Here it gets
a file object and no protocol to open anything else with, only formats that phones and browsers
make, and only decoders for what those contain.
"""

from __future__ import annotations

from typing import BinaryIO

import av
from av.container import InputContainer

FORMATS = (
    "aac,aiff,amr,asf,avi,caf,flac,flv,matroska,mov,mp3,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,ogg,wav,"
    "webm,w64"
)
VIDEO_DECODERS = frozenset(
    {
        *("av1", "flv", "h263", "h264", "hevc", "libdav1d", "libvpx", "libvpx-vp9", "mjpeg"),
        *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "theora", "vp8", "vp9"),
        *("wmv1", "wmv2", "wmv3", "vc1"),
    }
)
AUDIO_DECODERS = frozenset(
    {
        *("aac", "aac_fixed", "aac_latm", "ac3", "adpcm_ima_wav", "adpcm_ms", "alac", "amrnb"),
        *("amrwb", "eac3", "flac", "gsm_ms", "libgsm_ms", "libopencore_amrnb"),
        *("libopencore_amrwb", "libopus", "libspeex", "libvorbis", "mp1", "mp1float", "mp2"),
        *("mp2float", "mp3", "mp3float", "opus", "speex", "vorbis", "wmapro", "wmav1", "wmav2"),
        *("pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_f64le", "pcm_mulaw", "pcm_s16be"),
        *("pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8"),
    }
)
PROBE_BYTES = 5_000_000


def open_media(file: BinaryIO) -> InputContainer:
    """The file's streams.

    :raises av.error.FFmpegError: if it is none of the formats, or broken.
    """
    return av.open(
        file,
        mode="r",
        options={
            "format_whitelist": FORMATS,
            "protocol_whitelist": "none",
            "codec_whitelist": ",".join(sorted(VIDEO_DECODERS | AUDIO_DECODERS)),
            "probesize": str(PROBE_BYTES),
            "max_streams": "32",
        },
        metadata_errors="replace",
    )

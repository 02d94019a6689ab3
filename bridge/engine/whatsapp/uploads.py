"""Files out: left at WhatsApp, encrypted.

neonize wants the whole file at once. It is mapped, not read, so that Python holds no copy; Go holds
two for the time of the upload (the file, and what it makes of it): 100 MB take 290 MB, measured.
So large files go another way (`engine.upstream`), if WhatsApp's answer says where.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from contextlib import closing, nullcontext
from pathlib import Path

from neonize._binder import gocode
from neonize.proto import Neonize_pb2 as wire
from neonize.utils.enum import MediaType

from bridge.engine.upstream import LARGE_BYTES
from bridge.orders import MediaKind, Uploaded, UploadMedia

_TYPES = {
    "image": MediaType.MediaImage,
    "sticker": MediaType.MediaImage,
    "video": MediaType.MediaVideo,
    "audio": MediaType.MediaAudio,
    "document": MediaType.MediaDocument,
}


# One large file at a time in a process: with many accounts the copies would add up.
_large = threading.Lock()


class UploadFailed(Exception):
    """The text is whatsmeow's."""


def upload(client: bytes, order: UploadMedia) -> Uploaded:
    """Encrypt and upload. Blocks for as long as it takes.

    Args:
        client: its name in neonize's maps.
        order: which file.

    :raises UploadFailed: if WhatsApp did not take it.
    :raises OSError: if the file cannot be read.
    """
    with (
        Path(order.path).open("rb") as file,
        closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)) as mapped,
    ):
        size_bytes = len(mapped)
        in_turn = _large if size_bytes > LARGE_BYTES else nullcontext()
        view = (ctypes.c_char * size_bytes).from_buffer(mapped)
        try:
            with in_turn:
                # `cast` would keep a reference
                return _upload(client, ctypes.addressof(view), size_bytes, order.kind)
        finally:
            del view  # or the mapping could not be closed


def upload_bytes(client: bytes, data: bytes, kind: MediaKind) -> Uploaded:
    """The same, of something small.

    :raises UploadFailed: if WhatsApp did not take it.
    """
    view = ctypes.create_string_buffer(data, len(data))
    return _upload(client, ctypes.addressof(view), len(data), kind)


def _upload(client: bytes, address: int, size_bytes: int, kind: MediaKind) -> Uploaded:
    raw: bytes = gocode.Upload(client, ctypes.c_char_p(address), size_bytes, _TYPES[kind].value)
    answer = wire.UploadReturnFunction.FromString(raw)
    if answer.Error:
        raise UploadFailed(answer.Error)
    told = answer.UploadResponse
    return Uploaded(
        url=told.url,
        direct_path=told.DirectPath,
        media_key=told.MediaKey,
        sha256=told.FileSHA256,
        encrypted_sha256=told.FileEncSHA256,
        size_bytes=told.FileLength,
    )

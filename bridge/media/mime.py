"""Names of types: which extension a type has, and which of several opinions to believe. Pure.

Content decides. A declared type or a file's extension is heard only where content leaves the
question open (every csv is text, every xlsx is a zip), and never to call something a web page:
what a browser would run must not get its name from a stranger.
"""

from __future__ import annotations

import mimetypes
import re

OCTETS = "application/octet-stream"
VOICE_NOTE = "audio/ogg; codecs=opus"
"""What WhatsApp calls a voice note; iPhones play no other."""

_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")

# Not from the machine's /etc/mime.types: the same file must get the same name everywhere.
_TABLE = mimetypes.MimeTypes(filenames=())
_PREFERRED = {
    "application/gzip": ".gz",
    "application/msword": ".doc",
    "application/octet-stream": ".bin",
    "application/rtf": ".rtf",
    "application/vnd.android.package-archive": ".apk",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-outlook": ".msg",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.rar": ".rar",
    "application/x-7z-compressed": ".7z",
    "application/xml": ".xml",
    "audio/aac": ".aac",
    "audio/amr": ".amr",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/webm": ".webm",
    "image/heic": ".heic",
    "image/jpeg": ".jpg",
    "image/tiff": ".tif",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/plain": ".txt",
    "text/vcard": ".vcf",
    "video/3gpp": ".3gp",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
}
_BY_EXTENSION = {extension: mime for mime, extension in reversed(_PREFERRED.items())}

_SYNONYMS = {
    "application/cdfv2": "application/x-ole-storage",
    "application/x-gzip": "application/gzip",
    "application/x-rar": "application/vnd.rar",
    "application/x-zip-compressed": "application/zip",
    "audio/mp3": "audio/mpeg",
    "audio/x-aac": "audio/aac",
    "audio/x-flac": "audio/flac",
    "audio/x-hx-aac-adts": "audio/aac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-wav": "audio/wav",
    "image/jpg": "image/jpeg",
    "image/x-ms-bmp": "image/bmp",
    "text/rtf": "application/rtf",
    "text/x-vcard": "text/vcard",
    "text/xml": "application/xml",
}

_OFFICE_ZIPS = (
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
    "application/vnd.android.package-archive",
    "application/epub+zip",
)
_OLE = ("application/msword", "application/vnd.ms-")
# What content cannot tell apart, and what may then be believed.
_OPEN_QUESTIONS: dict[str, tuple[str, ...]] = {
    "application/zip": _OFFICE_ZIPS,
    "application/x-ole-storage": _OLE,
    "text/plain": ("text/csv", "text/plain", "text/vcard", "application/json", "text/calendar"),
    "text/csv": ("text/csv", "text/plain"),
    OCTETS: (*_OFFICE_ZIPS, *_OLE, "application/pdf", "text/plain", "text/csv"),
}


def bare_type(mime_type: str | None) -> str | None:
    """A type without its parameters, in lower case and under its usual name; None if it is none."""
    if mime_type is None:
        return None
    bare = mime_type.partition(";")[0].strip().lower()
    if not _MIME.fullmatch(bare):
        return None
    return _SYNONYMS.get(bare, bare)


def extension_of(mime_type: str | None) -> str:
    """The extension, with its dot, that files of a type usually have; empty if none is usual."""
    bare = bare_type(mime_type)
    if bare is None:
        return ""
    return _PREFERRED.get(bare) or _TABLE.guess_extension(bare, strict=True) or ""


def type_of_extension(file_name: str | None) -> str | None:
    """The type that a file name claims."""
    dot = (file_name or "").rfind(".")
    if file_name is None or dot < 0:
        return None
    extension = file_name[dot:].lower()
    return _BY_EXTENSION.get(extension) or bare_type(
        _TABLE.types_map[True].get(extension) or _TABLE.types_map[False].get(extension)
    )


def believed_type(content: str | None, *, declared: str | None, file_name: str | None) -> str:
    """The type to store: what content says, made precise by the claims where it leaves room."""
    found = bare_type(content) or OCTETS
    believable = _OPEN_QUESTIONS.get(found, ())
    for claim in (bare_type(declared), type_of_extension(file_name)):
        if claim is not None and claim.startswith(believable) and claim != found:
            return claim
    return found

r"""File names that play no tricks, and the paths that media are stored under. Pure.

A stranger's file name becomes two names:

* the **display name**, for `attachments.file_name` and for the receiver: every character as it
  came, except those that deceive or break something (controls, direction overrides, invisible
  ones, path separators), which are written as ``%XX`` of their UTF-8 bytes. `original_name` turns
  it back, character for character;
* the **stored name**, the last part of the storage path: a few ASCII characters only (Supabase
  Storage refuses others), short, with an extension, on every file system an ordinary file.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote
from uuid import UUID

from bridge.errors import CommandError
from bridge.ids import AccountId
from bridge.media.mime import extension_of

STORED_NAME_MAX = 100
DISPLAY_NAME_MAX = 1000
"""A longer display name is cut, and then only its beginning can be had back."""
PATH_MAX = 1000

_HARMLESS_FORMAT = frozenset("\u200c\u200d")  # joiners: Persian and emoji need them
_INVISIBLE_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_DECEIVING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_ESCAPE = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_NOT_STORABLE = re.compile(r"[^A-Za-z0-9._()-]+")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)$", re.IGNORECASE)
# What Storage accepts in a key, without what no part of ours needs.
_PATH_PART = re.compile(r"[A-Za-z0-9_!.*'() &$@=;:+,?-]{1,255}")


class StoragePathRefused(CommandError):
    """A path in a command is none that its author may name."""

    code = "storage_path_refused"


def display_name(name: str) -> str:
    """The name with everything written out that would deceive a reader. Empty stays empty."""
    written = "".join(_written(character) for character in _ESCAPE.sub("%25", name))
    if written in {".", ".."}:
        written = written.replace(".", "%2E")
    if len(written) <= DISPLAY_NAME_MAX:
        return written
    return _cut(written, DISPLAY_NAME_MAX - 1) + "…"


def original_name(displayed: str) -> str:
    """What `display_name` was given, if it did not have to cut."""
    return _ESCAPED.sub(
        lambda found: unquote(found[0], encoding="utf-8", errors="surrogatepass"), displayed
    )


def stored_name(name: str | None, *, mime_type: str | None = None, fallback: str = "file") -> str:
    """An ordinary file name made of ``A-Z a-z 0-9 . _ ( ) -``, with an extension if one is known.

    :param name: as it came; directories in it are dropped.
    :param mime_type: gives the extension where the name has none.
    :param fallback: the name where nothing usable is left of it.
    """
    last = re.split(r"[/\\]", name or "")[-1]
    # Letters keep their base: "Orçamento" is stored as "Orcamento", not as "Or_amento".
    plain = unicodedata.normalize("NFKD", last.encode("utf-8", "ignore").decode())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"\.{2,}", ".", _NOT_STORABLE.sub("_", plain)).rstrip("._")
    found = _EXTENSION.search(plain)
    extension = found[0].lower() if found else extension_of(mime_type)
    stem = plain[: found.start()] if found else plain
    stem = stem.strip("._-") or fallback
    if _RESERVED.fullmatch(stem.partition(".")[0]):
        stem = f"{fallback}_{stem}"
    return stem[: STORED_NAME_MAX - len(extension)].rstrip("._-") + extension


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePath:
    """``workspace/account/conversation/message/file`` in the media bucket; ids are UUIDs."""

    workspace_id: str
    account_id: AccountId
    conversation_id: str
    message_id: str
    file: str

    @classmethod
    def of(
        cls,
        *,
        workspace_id: str,
        account_id: AccountId,
        conversation_id: str,
        message_id: str,
        name: str | None,
        mime_type: str | None,
    ) -> Self:
        """The path of one message's file. The same arguments give the same path.

        :raises ValueError: if an id is no UUID, which is a fault of the caller.
        """
        return cls(
            workspace_id=_canonical(workspace_id),
            account_id=AccountId(_canonical(account_id)),
            conversation_id=_canonical(conversation_id),
            message_id=_canonical(message_id),
            file=stored_name(name, mime_type=mime_type),
        )

    def __str__(self) -> str:
        folder = f"{self.workspace_id}/{self.account_id}/{self.conversation_id}"
        return f"{folder}/{self.message_id}/{self.file}"


def path_of_workspace(path: str, workspace_id: str) -> str:
    """A `storage_path` of a command, if it lies in the workspace of the command.

    The bridge reads Storage with a key that opens everything, so the tenant is checked here.

    :raises StoragePathRefused: if it lies elsewhere, or is no plain path.
    """
    parts = path.split("/")
    if len(parts) < 2 or len(path) > PATH_MAX:
        raise StoragePathRefused("The storage path must start with the id of the workspace.")
    if not all(_PATH_PART.fullmatch(part) and part.strip(". ") for part in parts):
        raise StoragePathRefused(
            "The storage path has an empty, relative or unusual part; use the path that the "
            "upload returned."
        )
    if parts[0] != _canonical(workspace_id):
        raise StoragePathRefused("The storage path does not belong to this workspace.")
    return path


def _written(character: str) -> str:
    if character in "/\\" or _is_deceiving(character):
        return quote(character, safe="", encoding="utf-8", errors="surrogatepass")
    return character


def _is_deceiving(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cn":  # unknown to this Python: an emoji of next year, or no character at all
        return not 0x10000 <= ord(character) < 0xE0000 or ord(character) & 0xFFFE == 0xFFFE
    return (
        category in _DECEIVING and character not in _HARMLESS_FORMAT
    ) or character in _INVISIBLE_LETTERS


def _cut(text: str, length: int) -> str:
    """The beginning, without half an escape at its end."""
    return re.sub(r"%[0-9A-Fa-f]?$", "", text[:length])


def _canonical(identifier: str) -> str:
    return str(UUID(identifier))

"""A picture of a person or group: where WhatsApp says it is, fetched piece by piece.

Pictures are not encrypted, and lie on a host of their own. WhatsApp names it, in an answer that
only its server can have written; it is checked all the same, because the file comes from there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bridge.engine.downloads import pieces_of, whole_or_nothing
from bridge.errors import CommandError
from bridge.orders import FetchPicture

HOST = "whatsapp.net"
TOTAL_TIMEOUT_S = 60.0


class PictureElsewhere(CommandError):
    """The picture is on a host that is not WhatsApp's."""

    code = "picture_refused"

    def __init__(self) -> None:
        super().__init__("WhatsApp named a picture on a host that is not its own.")


def fetch(there: dict[str, Any], order: FetchPicture) -> dict[str, Any]:
    """What the order answers, after WhatsApp said where the picture is (`{state, id, url}`).

    :raises CommandError: if it cannot be had (now).
    """
    if there["state"] != "there":
        return there
    if there["id"] == order.known_id:
        return {"state": "unchanged"}
    file = download(there["url"], order.path, order.max_bytes)
    return {"state": "fetched", "id": there["id"], **file}


def download(
    url: str, path: str, max_bytes: int, *, client: httpx.Client | None = None
) -> dict[str, Any]:
    """Write the picture; answers its `sha256` and `size_bytes`. Blocks.

    When it fails, nothing is left at the path.

    :raises CommandError: `picture_refused`, `media_too_large`, or retryable.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" or not (host == HOST or host.endswith(f".{HOST}")):
        raise PictureElsewhere
    target = Path(path)
    with whole_or_nothing(target, client) as http:
        return _transfer(http, url, target, max_bytes)


def _transfer(http: httpx.Client, url: str, target: Path, max_bytes: int) -> dict[str, Any]:
    hashed, size_bytes = hashlib.sha256(), 0
    headers = {"Accept-Encoding": "identity"}
    with (
        http.stream("GET", url, headers=headers, follow_redirects=False) as response,
        target.open("wb") as file,
    ):
        for piece in pieces_of(response, most_bytes=max_bytes, within_s=TOTAL_TIMEOUT_S):
            size_bytes += len(piece)
            hashed.update(piece)
            file.write(piece)
    return {"sha256": hashed.hexdigest(), "size_bytes": size_bytes}

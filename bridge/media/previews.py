"""What apps show under a text with a link: title, description and picture of the page.

The page is asked as any `media_url` is (`bridge.media.fetch`): public hosts only. A page that
cannot be read costs the preview, never the message.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import anyio
from anyio import to_thread
from loguru import logger

from bridge.errors import CommandError
from bridge.media.fetch import Fetcher
from bridge.media.probe import probe
from bridge.media.workshop import Workshop
from bridge.orders import LinkPreview

MOST_PAGE_BYTES = 1024 * 1024
MOST_IMAGE_BYTES = 4 * 1024 * 1024
MOST_TITLE_CHARS = 300
MOST_DESCRIPTION_CHARS = 600
WAIT_S = 8.0

_LINK = re.compile(r"https://[^\s<>\"']+", re.IGNORECASE)
_TRAILING = ".,;:!?)]}»”"


class Previews:
    """Looks at pages."""

    def __init__(self, fetcher: Fetcher, workshop: Workshop) -> None:
        self._fetcher = fetcher
        self._workshop = workshop

    async def of(self, text: str) -> LinkPreview | None:
        """Of the first link in a text; None if there is nothing to show."""
        url = first_link(text)
        if url is None:
            return None
        preview: LinkPreview | None = None
        with anyio.move_on_after(WAIT_S):
            try:
                preview = await self._of(url)
            except CommandError as fault:
                logger.info("A page could not be looked at for a preview", code=fault.code)
        return preview

    async def _of(self, url: str) -> LinkPreview | None:
        async with self._fetcher.fetch(url, limit_bytes=MOST_PAGE_BYTES) as page:
            if page.declared not in ("text/html", "application/xhtml+xml"):
                return None
            head = await to_thread.run_sync(_head_of, page.path)
        title = head.said("og:title") or head.title
        if not title:
            return None
        return LinkPreview(
            url=url,
            title=title[:MOST_TITLE_CHARS],
            description=(head.said("og:description", "description") or "")[:MOST_DESCRIPTION_CHARS]
            or None,
            thumbnail=await self._thumbnail(url, head.said("og:image")),
        )

    async def _thumbnail(self, page: str, said: str | None) -> bytes | None:
        url = _absolute(page, said or "")
        if not said or _LINK.fullmatch(url) is None:
            return None
        try:
            async with self._fetcher.fetch(url, limit_bytes=MOST_IMAGE_BYTES) as image:
                return (await probe(self._workshop, image.path, declared=image.declared)).thumbnail
        except CommandError:
            return None


def first_link(text: str) -> str | None:
    """The first https link, without the punctuation behind it."""
    found = _LINK.search(text)
    return found[0].rstrip(_TRAILING) if found else None


class Head(HTMLParser):
    """Title and meta tags of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._in_title = False
        self._meta: dict[str, str] = {}

    def said(self, *names: str) -> str | None:
        """The first of these that the page says."""
        return next((self._meta[name] for name in names if self._meta.get(name)), None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of `HTMLParser`."""
        self._in_title = tag == "title" and not self.title
        if tag == "meta":
            said = dict(attrs)
            name = (said.get("property") or said.get("name") or "").lower()
            self._meta.setdefault(name, _line(said.get("content") or ""))

    def handle_endtag(self, tag: str) -> None:
        """Of `HTMLParser`."""
        if tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        """Of `HTMLParser`."""
        if self._in_title:
            self.title = _line(self.title + data)


def _absolute(page: str, said: str) -> str:
    try:
        return urljoin(page, said)
    except ValueError:  # "//[": no address at all
        return ""


def _head_of(path: Path) -> Head:
    head = Head()
    head.feed(path.read_bytes().decode("utf-8", "replace"))
    return head


def _line(text: str) -> str:
    """One line, of characters that can be seen or are spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())

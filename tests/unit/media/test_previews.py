"""Previews of links: what a page says, as far as it can be believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.fetch import Fetched
from bridge.media.hosts import MediaUrlRefused
from bridge.media.previews import Head, Previews, first_link
from bridge.orders import LinkPreview

pytestmark = pytest.mark.anyio


class FakeFetcher:
    """Answers pages by URL; everything else is refused."""

    def __init__(self, folder: Path, **pages: str) -> None:
        self.folder, self.pages = folder, pages
        self.asked: list[str] = []

    @asynccontextmanager
    async def fetch(self, url: str, *, limit_bytes: int) -> AsyncIterator[Fetched]:
        self.asked.append(url)
        page = self.pages.get(url.partition("//")[2].partition(".")[0])
        if page is None:
            raise MediaUrlRefused("Not there.")
        path = self.folder / "page"
        path.write_text(page)
        yield Fetched(path=path, size_bytes=1, sha256="", declared="text/html", suggested_name=None)


async def preview_of(text: str, fetcher: FakeFetcher) -> LinkPreview | None:
    unused: Any = None
    return await Previews(fetcher, unused).of(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("veja https://a.example/x?y=1#z.", "https://a.example/x?y=1#z"),
        ("(https://a.example)", "https://a.example"),
        ("http://a.example", None),
        ("nada", None),
        ('<a href="https://a.example">', "https://a.example"),
    ],
)
def test_the_first_link_is_found(text: str, link: str | None) -> None:
    assert first_link(text) == link


async def test_a_page_says_title_and_description(tmp_path: Path) -> None:
    page = """<html><head><title>Plain &amp; old</title>
        <meta property="og:title" content="Loja
        Nova"><meta name="description" content="Tudo &lt;barato&gt;"></head>"""
    found = await preview_of("https://shop.example", FakeFetcher(tmp_path, shop=page))
    assert found == LinkPreview(
        url="https://shop.example", title="Loja Nova", description="Tudo <barato>"
    )


async def test_a_picture_that_cannot_be_had_costs_only_the_picture(tmp_path: Path) -> None:
    page = '<title>T</title><meta property="og:image" content="https://10.0.0.1/x.png">'
    fetcher = FakeFetcher(tmp_path, shop=page)
    assert await preview_of("https://shop.example", fetcher) == LinkPreview(
        url="https://shop.example", title="T"
    )
    assert fetcher.asked == ["https://shop.example", "https://10.0.0.1/x.png"]


@pytest.mark.parametrize("page", ["", "<title> </title>", "<title"])
async def test_a_page_without_title_has_no_preview(tmp_path: Path, page: str) -> None:
    assert await preview_of("https://shop.example", FakeFetcher(tmp_path, shop=page)) is None


async def test_a_page_that_is_refused_costs_only_the_preview(tmp_path: Path) -> None:
    assert await preview_of("https://169.254.169.254/", FakeFetcher(tmp_path)) is None


@given(st.text(max_size=400))
def test_no_page_can_stumble_the_reader(page: str) -> None:
    head = Head()
    head.feed(page)
    head.feed(f"<title>{page}</title><meta name=description content='{page}'>")
    assert "\n" not in head.title

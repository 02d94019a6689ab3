"""What a command says of a file becomes an object, a row's facts and an order."""

from __future__ import annotations

import io
import os
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from PIL import Image

from bridge.errors import CommandError
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch
from bridge.media.addresses import IPAddress, is_public
from bridge.media.fetch import Fetcher
from bridge.media.hosts import FetchRules, resolve
from bridge.media.outgoing import Landing, Outbox
from bridge.media.workshop import Workshop
from bridge.orders import Media, Request, Uploaded, UploadMedia
from bridge.supabase.answers import ClaimedCommand
from bridge.supabase.storage import FileNotStored
from tests.unit.media.makers import (
    animation_that_claims,
    moving,
    picture,
    png_that_claims,
    saved,
    sound,
)
from tests.unit.media.strangers import Authority, Behaviour, file, head, serving

pytestmark = pytest.mark.anyio

WORKSPACE = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
ACCOUNT = AccountId("33333333-3333-4333-8333-333333333333")
CONVERSATION = "44444444-4444-4444-8444-444444444444"
MESSAGE = "55555555-5555-4555-8555-555555555555"
COMMAND = ClaimedCommand(
    id=CommandId("c1"),
    account_id=ACCOUNT,
    lease_epoch=LeaseEpoch(1),
    type="send",
    payload={},
    attempts=1,
    claims=1,
    conversation_id=CONVERSATION,
    chat_jid=Jid("5511987654321@s.whatsapp.net"),
    message_id=MESSAGE,
)


class FakeAccount:
    """Uploads to nowhere, and keeps what it was given."""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.workspace_id = WORKSPACE
        self.settings = settings or {}
        self.uploaded: list[tuple[str, bytes]] = []

    async def ask(self, order: Request) -> Any:
        assert isinstance(order, UploadMedia)
        self.uploaded.append((order.kind, await anyio.Path(order.path).read_bytes()))
        return msgspec.to_builtins(
            Uploaded(
                url="u",
                direct_path="/p",
                media_key=b"k",
                sha256=b"s",
                encrypted_sha256=b"e",
                size_bytes=len(self.uploaded[-1][1]),
            )
        )


class FakeBucket:
    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}

    async def upload(self, path: str, file: Path, *, mime_type: str) -> None:
        self.files[path] = (await anyio.Path(file).read_bytes(), mime_type)

    async def download(self, path: str, target: Landing) -> None:
        if path not in self.files:
            raise FileNotStored
        data = self.files[path][0]
        target.announce(len(data))
        await target.write(data)


class FakeRpc:
    def __init__(self) -> None:
        self.known: str | None = None
        self.facts: list[dict[str, Any]] = []

    async def find_stored_file(
        self, account: AccountId, epoch: LeaseEpoch, sha256: str
    ) -> str | None:
        return self.known

    async def attach_to_send(
        self, account: AccountId, epoch: LeaseEpoch, command: CommandId, facts: dict[str, Any]
    ) -> str | None:
        self.facts.append(facts)
        return "attachment"


class Post:
    """An outbox with everything around it."""

    def __init__(self, folder: Path, workshop: Workshop, rules: FetchRules | None = None) -> None:
        self.folder = folder
        self.bucket = FakeBucket()
        self.rpc = FakeRpc()
        self.account = FakeAccount()
        fetcher = Fetcher(folder, rules=rules)
        self.outbox = Outbox(self.rpc, self.bucket, fetcher, workshop, folder)

    def put(self, data: bytes, name: str = "file.bin", workspace: str = WORKSPACE) -> str:
        path = f"{workspace}/{ACCOUNT}/outgoing/{name}"
        self.bucket.files[path] = (data, "application/octet-stream")
        return path

    async def prepare(self, kind: str, **wanted: Any) -> Media:
        media = await self.outbox.prepare(COMMAND, self.account, kind=kind, **wanted)
        assert list(self.folder.iterdir()) == [], "nothing is left behind"
        return media

    async def refusal(self, kind: str, **wanted: Any) -> CommandError:
        with pytest.raises(CommandError) as caught:
            await self.prepare(kind, **wanted)
        assert self.account.uploaded == []
        assert self.rpc.facts == []
        assert list(self.folder.iterdir()) == [], "nothing is left behind"
        assert caught.value.sentence.endswith(".")
        return caught.value


@pytest.fixture
def post(folder: Path, workshop: Workshop) -> Post:
    return Post(folder, workshop)


def rules(authority: Authority, port: int) -> FetchRules:
    """Of a bridge for which this machine's loopback is one more public host."""

    def is_allowed(address: IPAddress) -> bool:
        return address == ip_address("127.0.0.1") or is_public(address)

    async def names(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "files.test" else list(await resolve(host, port))

    return FetchRules(
        resolve=names, is_allowed=is_allowed, port=port, tls=authority.client_context()
    )


async def test_a_picture_of_the_bucket_is_sent_as_it_is(post: Post) -> None:
    data = picture("JPEG")
    path = post.put(data, "photo.jpg")
    media = await post.prepare("image", storage_path=path)
    assert post.account.uploaded == [("image", data)]
    assert (media.kind, media.mime_type, media.width, media.height) == (
        "image",
        "image/jpeg",
        64,
        32,
    )
    assert media.thumbnail is not None
    assert post.rpc.facts[0]["path"] == path
    assert list(post.bucket.files) == [path]


async def test_a_recording_becomes_a_voice_note_and_that_is_stored(
    post: Post, tmp_path: Path
) -> None:
    path = post.put(sound(tmp_path / "a.wav").read_bytes(), "a.wav")
    media = await post.prepare("audio", storage_path=path, voice_note=True)
    assert (media.mime_type, media.seconds, media.voice_note) == ("audio/ogg; codecs=opus", 2, True)
    assert len(media.waveform or b"") == 64
    facts = post.rpc.facts[0]
    assert facts["path"].startswith(f"{WORKSPACE}/{ACCOUNT}/{CONVERSATION}/{MESSAGE}/")
    assert post.bucket.files[facts["path"]] == (post.account.uploaded[0][1], "audio/ogg")


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        ("image", b"hello", "media_unsuitable"),
        ("video", picture("JPEG"), "media_unsuitable"),
        ("sticker", b"hello", "media_unsuitable"),
        ("sticker", png_that_claims(20_000, 20_000), "media_unsuitable"),
        ("sticker", picture("JPEG")[:400], "media_unsuitable"),
        ("audio", b"\x00" * 100, "media_unsuitable"),
        ("document", b"", "media_unsuitable"),
        ("sticker", picture("WEBP") + bytes(16 << 20), "media_too_large"),
    ],
)
async def test_what_is_not_what_it_should_be(post: Post, kind: str, data: bytes, code: str) -> None:
    assert (await post.refusal(kind, storage_path=post.put(data))).code == code


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
async def test_any_picture_becomes_a_sticker_and_that_is_stored(post: Post, name: str) -> None:
    media = await post.prepare("sticker", storage_path=post.put(picture(name), "photo"))
    ((kind, sent),) = post.account.uploaded
    with Image.open(io.BytesIO(sent)) as sticker:
        assert (sticker.format, sticker.size) == ("WEBP", (512, 512))
        corner, left = (sticker.convert("RGBA").getpixel(at) for at in ((5, 5), (100, 256)))
    assert isinstance(corner, tuple)
    assert isinstance(left, tuple)
    assert corner[3] == 0, "the ground is transparent"
    assert left[0] > 200
    assert (kind, media.mime_type, media.width, media.animated) == (
        *("sticker", "image/webp", 512, False),
    )
    facts = post.rpc.facts[0]
    assert post.bucket.files[facts["path"]] == (sent, "image/webp")


@pytest.mark.parametrize("name", ["GIF", "WEBP"])
async def test_what_moves_is_a_sticker_that_moves(post: Post, name: str) -> None:
    media = await post.prepare("sticker", storage_path=post.put(moving(name), "dance"))
    with Image.open(io.BytesIO(post.account.uploaded[0][1])) as sticker:
        assert (sticker.size, getattr(sticker, "n_frames", 1)) == ((512, 512), 3)
    assert media.animated


async def test_a_sticker_is_sent_as_it_is_and_made_small_if_it_is_not(post: Post) -> None:
    data = picture("WEBP", size=(512, 512))
    await post.prepare("sticker", storage_path=post.put(data))
    assert post.account.uploaded[0][1] == data
    await post.prepare("sticker", storage_path=post.put(data + bytes(1 << 20)))
    assert len(post.account.uploaded[1][1]) < 100 * 1024


async def test_noise_of_any_length_becomes_a_small_sticker_or_is_refused(post: Post) -> None:
    frames = [Image.frombytes("RGB", (128, 128), os.urandom(49_152)) for _ in range(12)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=70)
    try:
        media = await post.prepare("sticker", storage_path=post.put(data, "noise.gif"))
    except CommandError as refusal:
        assert refusal.code == "media_unsuitable"
    else:
        assert media.file.size_bytes <= 500 * 1024


@pytest.mark.parametrize(
    ("name", "edge"), [("GIF", 65_535), ("WEBP", 16_383), ("WEBP", 9_999), ("GIF", 9_999)]
)
async def test_an_animation_that_unpacks_to_gigabytes_costs_one_job(
    post: Post, name: str, edge: int
) -> None:
    path = post.put(animation_that_claims(name, edge, edge), "bomb")
    try:
        await post.prepare("sticker", storage_path=path)
    except CommandError as refusal:
        assert refusal.code == "media_unsuitable"
    await post.prepare("sticker", storage_path=post.put(picture("PNG"), "photo"))


async def test_what_is_sent_for_an_edit_is_no_file_of_a_new_message(post: Post) -> None:
    path = post.put(picture("JPEG"), "photo.jpg")
    await post.prepare("image", storage_path=path, attach=False)
    assert post.rpc.facts == []
    assert list(post.bucket.files) == [path]


async def test_a_text_is_no_voice_note(post: Post) -> None:
    refusal = await post.refusal("audio", storage_path=post.put(b"la la la"), voice_note=True)
    assert refusal.code == "media_unreadable"


async def test_files_of_others_are_not_looked_for(post: Post) -> None:
    for path in (
        post.put(picture("JPEG"), workspace=OTHER),
        f"{WORKSPACE}/../{OTHER}/x.jpg",
        f"{WORKSPACE}//x.jpg",
        f"/{WORKSPACE}/x.jpg",
        "",
    ):
        assert (await post.refusal("image", storage_path=path)).code == "storage_path_refused"


async def test_two_gigabytes_are_refused_before_a_byte_is_read(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def download(path: str, target: Landing) -> None:
        target.announce(2_000_000_000)
        raise AssertionError("must not be reached")

    monkeypatch.setattr(post.bucket, "download", download)
    refusal = await post.refusal("video", storage_path=f"{WORKSPACE}/a/film.mp4")
    assert refusal.code == "media_too_large"
    assert "100 MB" in refusal.sentence


async def test_settings_change_the_limit(post: Post) -> None:
    data = picture("JPEG")
    post.account.settings = {"media_limits": {"image_bytes": len(data) - 1}}
    assert (await post.refusal("image", storage_path=post.put(data))).code == "media_too_large"
    post.account.settings = {"media_limits": {"image_bytes": len(data)}}
    await post.prepare("image", storage_path=post.put(data))


async def test_a_file_of_the_internet_is_copied_into_the_bucket(
    folder: Path, workshop: Workshop, authority: Authority, server_tls: ssl.SSLContext
) -> None:
    data = picture("PNG")
    answer = file(data, Content_Disposition='attachment; filename="a b.png"')
    async with serving(lambda _, stream: stream.send(answer), server_tls) as port:
        post = Post(folder, workshop, rules(authority, port))
        media = await post.prepare("image", media_url=f"https://files.test:{port}/x")
        path = post.rpc.facts[0]["path"]
        assert path == f"{WORKSPACE}/{ACCOUNT}/{CONVERSATION}/{MESSAGE}/a_b.png"
        assert post.bucket.files == {path: (data, "image/png")}
        assert (media.mime_type, post.account.uploaded) == ("image/png", [("image", data)])

        post.rpc.known = "where/it/is"
        await post.prepare("document", media_url=f"https://files.test:{port}/x", file_name="é.png")
        assert post.rpc.facts[1]["path"] == "where/it/is"
        assert list(post.bucket.files) == [path]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (head(302, Location="https://169.254.169.254/latest/meta-data"), "media_url_refused"),
        (head(302, Location="http://files.test/"), "media_url_refused"),
        (head(302, Location="file:///etc/passwd"), "media_url_refused"),
        (head(404), "media_unreachable"),
        (head(200, Content_Length="2147483648"), "media_too_large"),
        (head(200, Content_Encoding="gzip"), "media_url_refused"),
        (file(b"<html>no picture</html>"), "media_unsuitable"),
    ],
)
async def test_servers_that_mean_no_good(
    folder: Path,
    workshop: Workshop,
    authority: Authority,
    server_tls: ssl.SSLContext,
    answer: bytes,
    code: str,
) -> None:
    behaviour: Behaviour = lambda _, stream: stream.send(answer)  # noqa: E731
    async with serving(behaviour, server_tls) as port:
        post = Post(folder, workshop, rules(authority, port))
        refusal = await post.refusal("image", media_url=f"https://files.test:{port}/x")
        assert refusal.code == code

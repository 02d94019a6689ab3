from __future__ import annotations

import re
import unicodedata
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CommandError
from bridge.ids import AccountId
from bridge.media.mime import believed_type, extension_of, type_of_extension
from bridge.media.names import (
    DISPLAY_NAME_MAX,
    STORED_NAME_MAX,
    StoragePath,
    display_name,
    original_name,
    path_of_workspace,
    stored_name,
)

any_text = st.text(
    alphabet=st.one_of(
        st.characters(), st.sampled_from("/\\.%25EaF\u202e\u0000\n\ud83d\ude00éß日🙂\u200d ")
    ),
    max_size=300,
)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system32\\x.DLL", "x.dll"),
        ("/etc/shadow", "shadow"),
        ("a/../b.pdf", "b.pdf"),
        ("..", "file"),
        ("....", "file"),
        ("", "file"),
        (None, "file"),
        ("   ", "file"),
        ("\x00\x01", "file"),
        ("invoice\x00.pdf", "invoice.pdf"),
        ("line\r\nbreak.txt", "line_break.txt"),
        ("photo\u202egpj.exe", "photo_gpj.exe"),
        ("con.txt", "file_con.txt"),
        ("NUL", "file_NUL"),
        ("lpt1.tar.gz", "file_lpt1.tar.gz"),
        ("name.txt:stream.exe", "name.txt_stream.exe"),
        ("Orçamento São João.PDF", "Orcamento_Sao_Joao.pdf"),
        ("日本語.pdf", "file.pdf"),
        ("🙂.png", "file.png"),
        (".htaccess", "file.htaccess"),
        ("-rf", "rf"),
        ("a" * 500 + ".pdf", "a" * 96 + ".pdf"),
        ("%2e%2e%2fx.pdf", "2e_2e_2fx.pdf"),
        ("half\ud83d.pdf", "half.pdf"),
    ],
)
def test_a_stored_name_is_ordinary(name: str | None, stored: str) -> None:
    assert stored_name(name) == stored


def test_an_extension_comes_from_the_type_only_where_it_is_missing() -> None:
    assert stored_name("report", mime_type="application/pdf") == "report.pdf"
    assert stored_name("report.doc", mime_type="application/pdf") == "report.doc"
    assert stored_name(None, mime_type="audio/ogg; codecs=opus", fallback="voice") == "voice.ogg"
    assert stored_name("x", mime_type="nonsense") == "x"


@given(any_text, st.sampled_from([None, "image/jpeg", "a/b", "text/csv"]))
def test_no_name_becomes_a_dangerous_stored_name(name: str, mime_type: str | None) -> None:
    stored = stored_name(name, mime_type=mime_type)
    assert re.fullmatch(r"[A-Za-z0-9(][A-Za-z0-9._()-]*", stored) or stored[0] == ")"
    assert len(stored) <= STORED_NAME_MAX
    assert ".." not in stored
    assert not stored.endswith(".")
    assert stored_name(stored) == stored


@given(any_text)
def test_a_display_name_deceives_nobody_and_can_be_turned_back(name: str) -> None:
    shown = display_name(name)
    assert not set(shown) & set("/\\\x00\r\n\u202e\u2066\u200f")
    assert shown not in {".", ".."}
    assert len(shown) <= DISPLAY_NAME_MAX
    shown.encode()  # no half surrogates: Postgres takes it
    if len(shown) < DISPLAY_NAME_MAX:
        assert original_name(shown) == name


def test_an_honest_display_name_stays_as_it_is() -> None:
    for name in (
        "Orçamento 100% final (2).pdf",
        "日本語.xlsx",
        "👨‍👩‍👧.png",
        "می‌خواهم.txt",
        "a:b?.txt",
    ):
        assert display_name(name) == name
    assert display_name("in\u202egpj.exe") == "in%E2%80%AEgpj.exe"
    assert display_name("100%25.pdf") == "100%2525.pdf"


def test_an_endless_display_name_is_cut() -> None:
    shown = display_name("\u202e" * 5000)
    assert len(shown) <= DISPLAY_NAME_MAX
    assert re.fullmatch(r"(%[0-9A-F]{2})+…", shown)


def test_every_format_character_but_the_joiners_is_written_out() -> None:
    for point in range(0x110000):
        character = chr(point)
        if unicodedata.category(character) in {"Cc", "Cf"} and character not in "\u200c\u200d":
            assert character not in display_name(character)


def path_of(**changes: str) -> StoragePath:
    ids: dict[str, str] = {
        "workspace_id": str(uuid4()),
        "account_id": str(uuid4()),
        "conversation_id": str(uuid4()),
        "message_id": str(uuid4()),
    } | changes
    return StoragePath.of(
        workspace_id=ids["workspace_id"],
        account_id=AccountId(ids["account_id"]),
        conversation_id=ids["conversation_id"],
        message_id=ids["message_id"],
        name="../x.pdf",
        mime_type=None,
    )


def test_a_storage_path_has_five_parts_and_lies_in_its_workspace() -> None:
    path = path_of()
    assert len(str(path).split("/")) == 5
    assert str(path).endswith("/x.pdf")
    assert path_of_workspace(str(path), path.workspace_id) == str(path)


@pytest.mark.parametrize("part", ["workspace_id", "account_id", "conversation_id", "message_id"])
def test_a_storage_path_is_made_of_ids_alone(part: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        path_of(**{part: "../" + str(uuid4())})


WORKSPACE = "0b54c8b2-1f6c-4d5e-9a68-5b1f8e8a8f10"
OTHER = "7b1f0f0e-2222-4d5e-9a68-5b1f8e8a8f10"


@pytest.mark.parametrize(
    "path",
    [
        f"{OTHER}/a/b.pdf",
        f"{WORKSPACE}/../{OTHER}/b.pdf",
        f"{WORKSPACE}/./b.pdf",
        f"{WORKSPACE}//b.pdf",
        f"/{WORKSPACE}/b.pdf",
        f"{WORKSPACE}/",
        f"{WORKSPACE}",
        f"{WORKSPACE}/a\\..\\b.pdf",
        f"{WORKSPACE}/a%2f..%2fb.pdf",
        f"{WORKSPACE}/a\x00.pdf",
        f"{WORKSPACE}/a\n.pdf",
        f"{WORKSPACE}/. ./b.pdf",
        f"{WORKSPACE.upper()}/b.pdf",
        f"{WORKSPACE}/" + "a/" * 600 + "b",
        "",
    ],
)
def test_a_path_of_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(CommandError) as caught:
        path_of_workspace(path, WORKSPACE)
    assert caught.value.code == "storage_path_refused"


def test_extensions_and_types_name_each_other() -> None:
    for mime_type in ("image/jpeg", "audio/ogg", "video/mp4", "application/pdf", "text/csv"):
        assert type_of_extension("x" + extension_of(mime_type)) == mime_type
    assert extension_of("image/JPEG; q=1") == ".jpg"
    assert extension_of(None) == ""
    assert type_of_extension("no extension") is None
    assert type_of_extension("HOLERITE.XLSX") is not None


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_believed_type_is_always_a_type(content: str, declared: str, name: str) -> None:
    believed = believed_type(content, declared=declared, file_name=name)
    assert believed.count("/") == 1
    assert believed != "text/html" or content.lower().startswith("text/html")

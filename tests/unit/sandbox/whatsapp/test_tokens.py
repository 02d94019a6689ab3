"""The dictionary of the binary XML is found wherever the engine is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.sandbox.whatsapp.codec import tokens


def test_an_engine_behind_a_symbolic_link_is_read(tmp_path: Path) -> None:
    """The kernel lists mappings under the real path."""
    folder = tokens.engine_library().parent
    (tmp_path / "neonize").symlink_to(folder)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from bridge.sandbox.whatsapp.codec import tokens\n"
        "print(len(tokens._read_here().single))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("236", "")


def test_a_table_that_cannot_be_read_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(tokens.TokensMissing, match="ended the process"):
        tokens.read_tokens()

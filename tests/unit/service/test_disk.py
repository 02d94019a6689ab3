"""What a host keeps on its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.service.disk import locked, make_private, worker_id


def test_the_worker_id_stays_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    first = worker_id(tmp_path)
    assert worker_id(tmp_path) == first
    (tmp_path / "worker_id").write_text("damaged")
    assert worker_id(tmp_path) != first


def test_a_second_bridge_on_one_directory_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(ConfigError, match="Another bridge runs"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_directories_are_private(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    make_private(directory, "WABRIDGE_STATE_DIR")
    assert directory.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="WABRIDGE_STATE_DIR"):
        make_private(tmp_path / "file", "WABRIDGE_STATE_DIR")

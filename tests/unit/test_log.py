"""The log goes to stderr, whichever that is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from loguru import logger

from bridge import log


@pytest.fixture(autouse=True)
def log_of_tests() -> Iterator[None]:
    yield
    logger.remove()
    logger.add(log.to_stderr)


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_record_goes_to_the_stderr_of_now_when_that_of_the_set_up_is_closed(
    monkeypatch: pytest.MonkeyPatch, json_lines: bool
) -> None:
    before, now = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", before)
    log.set_up("warning", json_lines=json_lines)
    monkeypatch.setattr("sys.stderr", now)
    before.close()
    logger.info("not told")
    logger.warning("told", account="a1")
    (line,) = now.getvalue().splitlines()
    if json_lines:
        assert json.loads(line)["record"]["extra"] == {"account": "a1"}
    else:
        assert line.endswith("WARNING told account=a1")

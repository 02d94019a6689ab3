"""The dictionary of the binary XML, read once."""

from __future__ import annotations

import pytest

from bridge.sandbox.whatsapp.codec.binary import BinaryCodec
from bridge.sandbox.whatsapp.codec.tokens import Tokens, read_tokens


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    return read_tokens()


@pytest.fixture(scope="session")
def codec(tokens: Tokens) -> BinaryCodec:
    return BinaryCodec(tokens)

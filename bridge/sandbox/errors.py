"""What can go wrong with the sandbox itself, in one sentence for the person at the terminal."""

from __future__ import annotations

from bridge.errors import ConfigError


class SandboxError(ConfigError):
    """The sandbox cannot start like this, or a part of it stopped."""

    code = "sandbox"

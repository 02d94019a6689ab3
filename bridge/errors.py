"""Errors that mean something to a person, as a tree whose branch says how far a fault spreads.

    BridgeError
    ├── ConfigError        stops the service: a variable, a key, a missing migration
    ├── CommandError       fails one row of `commands`
    ├── AccountError       ends one account's session
    │   └── LeaseLost      another host owns the account now: write nothing more
    └── SupabaseUnavailable  nothing is wrong with the request: try again later

Every error has a stable ``code`` (public, listed in docs/operations.md) and one sentence for a
person. Neither ever holds a phone number, a message text or a secret.
"""

from __future__ import annotations


class BridgeError(Exception):
    """One fault, told in one sentence.

    Attributes:
        code: stable, machine-readable name of the fault.
        sentence: what happened and what to do, for a person.
    """

    code = "bridge_error"

    def __init__(self, sentence: str, *, code: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        if code is not None:
            self.code = code


class ConfigError(BridgeError):
    """The service cannot run like this. Printed without a stack trace; exit code 2."""

    code = "config"


class CommandError(BridgeError):
    """One command fails; nothing else does.

    Attributes:
        retryable: the same command may succeed later, and it is known that nothing was sent.
    """

    code = "command_failed"

    def __init__(self, sentence: str, *, code: str | None = None, retryable: bool = False) -> None:
        super().__init__(sentence, code=code)
        self.retryable = retryable


class AccountError(BridgeError):
    """One account's session ends; the others go on."""

    code = "account_error"


class LeaseLost(AccountError):
    """The database says that another worker runs this account, or that our lease ran out."""

    code = "lease_lost"


class SupabaseUnavailable(BridgeError):
    """Supabase did not answer, or answered with a fault of its own (5xx, 429, timeout)."""

    code = "supabase_unavailable"

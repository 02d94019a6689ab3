"""Errors as PostgREST words them: four fields, and a status that follows from the SQLSTATE."""

from __future__ import annotations

from typing import Any

import psycopg

CONFLICT = {"23503", "23505"}
NOT_FOUND = {"42P01", "42883"}
SERVER_FAULT_CLASSES = {"09", "25", "2D", "38", "39", "3B", "40", "57", "58", "F0", "HV", "XX"}


class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
        body: what the clients parse into their exceptions.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "code": code,
            "details": details,
            "hint": hint,
            "message": message,
        }


def unparseable(text: str, reason: str) -> ApiError:
    """The query string does not follow the grammar."""
    return ApiError(400, "PGRST100", f'"failed to parse {text}" ({reason})', reason)


def unsupported(what: str) -> ApiError:
    """PostgREST may know it; this server does not, and does not guess."""
    return ApiError(
        501, "SANDBOX", f"The sandbox does not support {what}.", None, "A hosted project may."
    )


def from_database(error: psycopg.Error, role: str) -> ApiError:
    """PostgreSQL's error as PostgREST passes it on to that caller."""
    diagnosis = error.diag
    if diagnosis.sqlstate is None:
        if isinstance(error, psycopg.DataError):  # e.g. a NUL, refused before it was sent
            return ApiError(400, "22021", str(error))
        return ApiError(503, "PGRST001", "Database connection lost. Retrying the connection.")
    state = diagnosis.sqlstate
    message = diagnosis.message_primary or str(error)
    return ApiError(
        status_of(state, role), state, message, diagnosis.message_detail, diagnosis.message_hint
    )


def status_of(state: str, role: str) -> int:
    """The HTTP status of an SQLSTATE."""
    if state[:2] == "PT" and state[2:].isdigit():
        return int(state[2:])
    if state == "42501":
        return 401 if role == "anon" else 403
    if state in CONFLICT:
        return 409
    if state in NOT_FOUND:
        return 404
    exact = {"25006": 405, "57014": 500, "53400": 500, "21000": 400, "P0001": 400}
    if state in exact:
        return exact[state]
    family = state[:2]
    if family in {"08", "53"}:
        return 503
    if family == "28":
        return 403
    if family == "54":
        return 413
    return 500 if family in SERVER_FAULT_CLASSES else 400

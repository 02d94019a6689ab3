"""What a request asks for besides its table: preferences, format, range, parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.sandbox.rest import grammar
from bridge.sandbox.rest.errors import ApiError, unparseable, unsupported
from bridge.sandbox.rest.render import Node
from bridge.sandbox.rest.schema import EXPOSED

MAX_ROWS = 1000
"""What a hosted project returns at most, whatever `limit` says."""

SINGLE = "application/vnd.pgrst.object+json"
FORMATS = {"application/json", "application/vnd.pgrst.array+json", "application/*", "*/*", ""}
CONTROL = {"select", "order", "limit", "offset", "on_conflict", "columns", "apikey"}
KNOWN_PREFERENCES = {
    "return": {"minimal", "representation"},
    "count": {"exact", "planned", "estimated"},
    "resolution": {"merge-duplicates", "ignore-duplicates"},
    "missing": {"null", "default"},
    "handling": {"strict", "lenient"},
    "tx": {"commit", "rollback"},
    "max-affected": None,
    "timezone": None,
}

Parameters = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Preferences:
    """The `Prefer` header.

    Attributes:
        representation: whether a write answers with the rows it wrote.
        count: whether the total is wanted (always exact here: also what `planned` may answer).
        resolution: what an insert does with rows that exist.
        missing_default: columns that a row leaves out take their default rather than null.
        max_affected: more rows than this undo the request.
    """

    representation: bool = False
    count: bool = False
    resolution: str | None = None
    missing_default: bool = False
    max_affected: int | None = None

    @classmethod
    def parse(cls, headers: Iterable[str]) -> Preferences:
        """Read the header.

        Raises:
            ApiError: for a preference that would change the answer and is not known here.
        """
        given: dict[str, str] = {}
        for header in headers:
            for preference in header.split(","):
                name, _, value = preference.strip().partition("=")
                given.setdefault(name.strip(), value.strip())
        strict = given.get("handling") == "strict"
        for name, value in given.items():
            known = KNOWN_PREFERENCES.get(name, set())
            if known is not None and value not in known:
                if name in {"return", "params", "resolution"}:
                    raise unsupported(f"the preference {name}={value}")
                if strict and name:
                    raise ApiError(
                        400,
                        "PGRST122",
                        "Invalid preferences given with handling=strict",
                        f"Invalid preferences: {name}={value}",
                    )
        if given.get("timezone", "UTC") != "UTC":
            raise unsupported("the preference timezone")
        affected = given.get("max-affected", "")
        return cls(
            representation=given.get("return") == "representation",
            count="count" in given,
            resolution=given.get("resolution"),
            missing_default=given.get("missing") == "default",
            max_affected=int(affected) if strict and affected.isdigit() else None,
        )


def wants_single(headers: Mapping[str, str]) -> bool:
    """Whether the answer is to be one object rather than a list.

    Raises:
        ApiError: PGRST107 for a format that is not JSON.
    """
    accepted = headers.get("accept", "")
    kinds = [kind.split(";")[0].strip() for kind in accepted.split(",")]
    if "nulls=stripped" in accepted:
        raise unsupported("nulls=stripped")
    if SINGLE in kinds or "application/vnd.pgrst.object" in kinds:
        return True
    if not FORMATS.intersection(kinds):
        raise ApiError(
            406, "PGRST107", f"None of these media types are available: {', '.join(kinds)}"
        )
    return False


def check_schema(headers: Mapping[str, str]) -> None:
    """Refuse another schema than the exposed one."""
    for header in ("accept-profile", "content-profile"):
        wanted = headers.get(header, EXPOSED)
        if wanted != EXPOSED:
            raise ApiError(
                406,
                "PGRST106",
                f"Invalid schema: {wanted}",
                None,
                f"Only the following schemas are exposed: {EXPOSED}",
            )


def apply_parameters(
    root: Node,
    parameters: Parameters,
    *,
    arguments: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    """Hang the filters, orders and pages of the query string on the relations they name.

    Args:
        root: the relation the request is about, with its embeds.
        parameters: of the query string, in order.
        arguments: names that are a function's arguments instead.

    Raises:
        ApiError: for what does not follow the grammar, or names no embed.
    """
    for key, text in parameters:
        if key in {"select", "on_conflict", "columns", "apikey"} or key in arguments:
            continue
        *path, last = grammar.split_key(key)
        if last in {"and", "or"}:
            negated = bool(path) and path[-1] == "not"
            node = _find(root, path[:-1] if negated else path)
            node.conditions.append(grammar.parse_logic(last, text, negated=negated))
            continue
        node = _find(root, path)
        if last == "order":
            node.order = (*node.order, *grammar.parse_order(text))
        elif last == "limit":
            node.limit = _whole_number(last, text)
        elif last == "offset":
            node.offset = _whole_number(last, text)
        else:
            node.conditions.append(grammar.parse_filter(last, text))


def apply_range(root: Node, headers: Mapping[str, str]) -> None:
    """`Range: 0-9`, unless the query string has pages of its own."""
    text = headers.get("range")
    if text is None or root.limit is not None or root.offset:
        return
    match = re.fullmatch(r"(\d{1,18})-(\d{0,18})", text)
    if match is None:
        raise unparseable(f"range ({text})", "expecting first-last")
    first = int(match[1])
    root.offset = first
    if match[2]:
        if int(match[2]) < first:
            raise ApiError(
                416,
                "PGRST103",
                "Requested range not satisfiable",
                "The lower boundary must be lower than or equal to the upper boundary.",
            )
        root.limit = int(match[2]) - first + 1


def cap_rows(node: Node) -> None:
    """No relation gives more rows than a hosted project would."""
    node.limit = MAX_ROWS if node.limit is None else min(node.limit, MAX_ROWS)
    for child in node.children:
        if child.relationship is not None and not child.relationship.to_one:
            cap_rows(child)
        else:
            for grandchild in child.children:
                cap_rows(grandchild)


def parse_json(text: str) -> Any:
    """The body of a request.

    Raises:
        ApiError: PGRST102 if it is no JSON.
    """
    try:
        return msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ApiError(400, "PGRST102", "Empty or invalid json") from error


def _find(root: Node, path: Sequence[str]) -> Node:
    node = root
    for name in path:
        node = node.child(grammar.unquote(name))
    return node


def _whole_number(name: str, text: str) -> int:
    if re.fullmatch(r"\d{1,18}", text) is None:
        raise unparseable(f"{name} ({text})", "expecting a whole number")
    return int(text)

"""`/rest/v1`: one request, one transaction, under the caller's role."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import psycopg
from aiohttp import web
from loguru import logger
from psycopg.sql import Composed, Identifier

from bridge.sandbox.keys import Claims, Keys, Unauthorized
from bridge.sandbox.pool import Connection, Pool, connected
from bridge.sandbox.rest import grammar, render, requests, statements
from bridge.sandbox.rest.errors import ApiError, from_database, unsupported
from bridge.sandbox.rest.render import Node
from bridge.sandbox.rest.requests import Preferences
from bridge.sandbox.rest.schema import EXPOSED, Schema, read_schema

PREFIX = "/rest/v1"
STALE_CACHE = {"PGRST202", "PGRST204", "PGRST205", "PGRST200"}
"""Errors that a table or function made a moment ago would explain: look again once."""

STATEMENT_TIMEOUTS = {"anon": "3s"}
DEFAULT_STATEMENT_TIMEOUT = "8s"
ENTER_TRANSACTION = b"""
select set_config('search_path', 'public, extensions', true),
  set_config('statement_timeout', %s, true), set_config('transaction_read_only', %s, true),
  set_config('role', %s, true), set_config('request.jwt.claims', %s, true),
  set_config('request.jwt.claim.sub', %s, true), set_config('request.jwt.claim.role', %s, true),
  set_config('request.method', %s, true), set_config('request.path', %s, true),
  set_config('request.headers', %s, true)
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request comes down to.

    Attributes:
        statement: answers (body, number of rows, total).
        reads_only: whether its transaction must not write.
        status: of the answer if nothing speaks against it.
        has_body: False for writes that answer with nothing.
        one_value: the body is a function's value, not a list of rows.
        offset: of the first row, for `Content-Range`; None if rows are not counted from anywhere.
    """

    statement: Composed
    reads_only: bool
    status: int = 200
    has_body: bool = True
    one_value: bool = False
    one_row: bool = False
    offset: int | None = None


@dataclass(slots=True)
class RestServer:
    """PostgREST's part of the gateway. `run` keeps its picture of the schema fresh."""

    pool: Pool
    keys: Keys
    schema: Schema = field(default_factory=Schema)

    async def load(self) -> None:
        """Read the schema; needed once before the first request."""
        async with self.pool.connection() as connection:
            self.schema = await read_schema(connection)

    async def run(self) -> None:
        """Read the schema again whenever the database says `notify pgrst`. Never returns."""
        while True:
            try:
                async with connected(self.pool.url) as connection:
                    await connection.execute("listen pgrst")
                    async for _ in connection.notifies():
                        await self.load()
            except psycopg.OperationalError:
                logger.warning("REST lost the connection that tells it of schema changes")
                await anyio.sleep(1)

    def routes(self) -> list[web.RouteDef]:
        """What the gateway serves of this."""
        return [web.route("*", PREFIX + "/{target:.*}", self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request; every fault becomes PostgREST's JSON."""
        role = "anon"
        try:
            claims = self.keys.claims_of_request(request.headers, request.query)
            role = str(claims["role"])
            return await self._answer(request, role, claims)
        except Unauthorized as error:
            return _unauthorized(error)
        except psycopg.Error as error:
            refused = from_database(error, role)
        except ApiError as error:
            refused = error
        return _json(refused.status, json.dumps(refused.body), {})

    async def _answer(self, request: web.Request, role: str, claims: Claims) -> web.Response:
        requests.check_schema(request.headers)
        preferences = Preferences.parse(request.headers.getall("Prefer", []))
        single = requests.wants_single(request.headers)
        body = await _text(request) if request.method in {"POST", "PATCH"} else ""
        try:
            plan = self._plan(request, body, preferences)
        except ApiError as error:
            if error.body["code"] not in STALE_CACHE:
                raise
            await self.load()
            plan = self._plan(request, body, preferences)
        async with self.pool.connection() as connection, connection.transaction():
            text, count, total = await _run(connection, plan, request, role, claims)
            _check_affected(count, preferences)
            if (single or plan.one_row) and plan.has_body and not plan.one_value:
                text = _only_row(text, count)
        return _response(request, plan, text, count, total)

    def _plan(self, request: web.Request, body: str, preferences: Preferences) -> Plan:
        target = request.match_info["target"].strip("/")
        if target.startswith("rpc/"):
            return self._plan_call(request, target.removeprefix("rpc/"), body, preferences)
        if not target:
            raise unsupported("the OpenAPI description")
        self.schema.columns(target)  # refuses unknown tables
        parameters = list(request.query.items())
        node = self._node(target, parameters)
        requests.apply_parameters(node, parameters)
        return _plan_table(self.schema, request, node, body, preferences)

    def _plan_call(
        self, request: web.Request, name: str, body: str, preferences: Preferences
    ) -> Plan:
        parameters = list(request.query.items())
        if request.method == "POST":
            call = statements.call_with_body(self.schema, name, body)
            in_query: set[str] = set()
        elif request.method in {"GET", "HEAD"}:
            given = {key: text for key, text in parameters if key not in requests.CONTROL}
            call = statements.call_with_parameters(self.schema, name, given)
            in_query = call.arguments
        else:
            raise ApiError(405, "PGRST101", f"Cannot use the {request.method} method on RPC")
        function = call.function
        reads_only = request.method != "POST" or function.read_only
        if not function.returns_row:
            _refuse_shaping(parameters, in_query)
            is_void = function.return_type == "void"
            return Plan(
                statements.scalar_call(call),
                reads_only,
                status=204 if is_void else 200,
                has_body=not is_void,
                one_value=True,
            )
        node = self._node(function.return_table or name, parameters)
        requests.apply_parameters(node, parameters, arguments=in_query)
        requests.apply_range(node, request.headers)
        if function.returns_set:
            requests.cap_rows(node)
        return Plan(
            statements.read(node, call.expression, preferences),
            reads_only,
            one_row=not function.returns_set,
            offset=node.offset,
        )

    def _node(self, table: str, parameters: requests.Parameters) -> Node:
        text = ",".join(text for key, text in parameters if key == "select") or "*"
        return render.node_of(self.schema, table, grammar.parse_selection(text))


def _plan_table(
    schema: Schema, request: web.Request, node: Node, body: str, preferences: Preferences
) -> Plan:
    parameters = list(request.query.items())
    written = preferences.representation
    match request.method:
        case "GET" | "HEAD":
            requests.apply_range(node, request.headers)
            requests.cap_rows(node)
            source = Identifier(EXPOSED, node.table)
            statement = statements.read(node, source, preferences)
            return Plan(statement, reads_only=True, offset=node.offset)
        case "POST":
            if node.conditions or node.limit is not None or node.offset:
                raise unsupported("filters on an insert")
            statement = statements.insert(schema, node, body, parameters, preferences)
            return Plan(statement, reads_only=False, status=201, has_body=written)
        case "PATCH":
            statement = statements.update(schema, node, body, parameters, preferences)
        case "DELETE":
            statement = statements.delete(node, preferences)
        case method:
            raise unsupported(f"{method} on a table")
    return Plan(
        statement, reads_only=False, status=200 if written else 204, has_body=written, offset=0
    )


async def _text(request: web.Request) -> str:
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, "PGRST102", "Empty or invalid json") from error


async def _run(
    connection: Connection, plan: Plan, request: web.Request, role: str, claims: Claims
) -> tuple[str | None, int, int | None]:
    values = [
        STATEMENT_TIMEOUTS.get(role, DEFAULT_STATEMENT_TIMEOUT),
        "on" if plan.reads_only else "off",
        role,
        json.dumps(claims),
        str(claims.get("sub", "")),
        role,
        request.method,
        request.path,
        json.dumps({name.lower(): value for name, value in request.headers.items()}),
    ]
    async with connection.pipeline():
        await connection.execute(ENTER_TRANSACTION, values)
        cursor = await connection.execute(plan.statement)
    row: tuple[str | None, int, int | None] | None = await cursor.fetchone()
    if row is None:  # every statement here aggregates
        raise AssertionError("a statement without an answer")
    return row


def _check_affected(count: int, preferences: Preferences) -> None:
    if preferences.max_affected is not None and count > preferences.max_affected:
        raise ApiError(
            400,
            "PGRST124",
            "Query result exceeds max-affected preference constraint",
            f"The query affects {count} rows",
        )


def _only_row(text: str | None, count: int) -> str:
    if count != 1:
        raise ApiError(
            406,
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
            f"The result contains {count} rows",
        )
    return (text or "").strip()[1:-1]


def _refuse_shaping(parameters: requests.Parameters, arguments: set[str]) -> None:
    """A function that returns a value has no columns to select, filter or order by."""
    for key, text in parameters:
        if key in arguments or key == "apikey" or (key == "select" and text == "*"):
            continue
        raise unsupported(f"the parameter '{key}' on a function that returns no rows")


def _response(
    request: web.Request, plan: Plan, text: str | None, count: int, total: int | None
) -> web.Response:
    headers = {}
    status = plan.status
    if not plan.one_value:
        shown = "*" if total is None else str(total)
        first = plan.offset
        span = f"{first}-{first + count - 1}" if first is not None and count else "*"
        headers["Content-Range"] = f"{span}/{shown}"
        if total is not None and plan.reads_only and first is not None:
            if first and first >= total:
                raise_out_of_range(first, total)
            if count < total:
                status = 206
    if request.method == "HEAD" or not plan.has_body:
        return web.Response(status=status, headers=headers)
    return _json(status, "null" if text is None else text, headers)


def raise_out_of_range(first: int, total: int) -> None:
    """The page asked for begins behind the last row."""
    raise ApiError(
        416,
        "PGRST103",
        "Requested range not satisfiable",
        f"An offset of {first} was requested, but there are only {total} rows.",
    )


def _json(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        status=status,
        text=text,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def _unauthorized(error: Unauthorized) -> web.Response:
    body: dict[str, Any]
    if error.key_problem:
        body = {"message": error.message, "hint": "Send one of the project's keys as `apikey`."}
    else:
        code = "PGRST303" if error.expired else "PGRST301"
        body = {"code": code, "details": None, "hint": None, "message": error.message}
    return _json(401, json.dumps(body), {"WWW-Authenticate": f'Bearer error="{error.message}"'})

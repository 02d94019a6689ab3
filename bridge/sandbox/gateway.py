"""One origin for REST, Auth, Storage and Realtime, with CORS and the faults of tests."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from loguru import logger

from bridge.sandbox.errors import SandboxError
from bridge.sandbox.faults import Faults, GatewayFault

HOST = "127.0.0.1"
MAX_BODY_BYTES = 256 * 1024 * 1024
STOP_TIMEOUT_S = 3.0
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Max-Age": "3600",
}
EXPOSED_HEADERS = "Content-Range, Content-Location, Location, Preference-Applied, ETag"


@asynccontextmanager
async def serving(
    routes: Iterable[web.RouteDef], faults: Faults, port: int, about: dict[str, str]
) -> AsyncIterator[int]:
    """Serve until the block ends; gives the port.

    Args:
        routes: of the parts.
        faults: looked at for every request.
        port: 0 takes a free one.
        about: what runs here, for the page at `/`: name → explanation.

    Raises:
        SandboxError: if the port is in use.
    """
    app = web.Application(
        client_max_size=MAX_BODY_BYTES, middlewares=[_cors, _spoiling(faults), _faithful]
    )
    app.add_routes(routes)
    app.router.add_get("/", _page(about))
    app.router.add_route("*", "/functions/v1/{name:.*}", _no_functions)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_TIMEOUT_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            raise SandboxError(
                f"Port {port} on {HOST} is in use: stop what uses it (another sandbox?), "
                "or choose another with --port.",
                code="port_in_use",
            ) from error
        yield runner.addresses[0][1]
    finally:
        with anyio.move_on_after(STOP_TIMEOUT_S + 2, shield=True):
            await runner.cleanup()


@web.middleware
async def _cors(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method == "OPTIONS":
        return web.Response(status=204, headers=CORS)
    response = await handler(request)
    if not response.prepared:
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
    return response


@web.middleware
async def _faithful(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What nothing serves is 404 in JSON; what breaks is 500 in JSON, and logged."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return web.json_response({"message": "The request is too large"}, status=413)
    except web.HTTPException as error:
        message = f"{request.method} {request.path} is not part of the sandbox"
        return web.json_response({"message": message}, status=error.status)
    except ConnectionError:
        return web.Response(status=499)  # the client is gone: nobody reads it
    except Exception:  # noqa: BLE001 - one request's fault must not be another's
        logger.exception("a request broke the sandbox", method=request.method, path=request.path)
        return web.json_response({"message": "The sandbox has a defect; see its log"}, status=500)


def _spoiling(faults: Faults) -> Middleware:
    @web.middleware
    async def spoil(request: web.Request, handler: Handler) -> web.StreamResponse:
        match faults.for_request(request.path):
            case GatewayFault.STATUS:
                body = {"message": "switched on by a test"}
                return web.json_response(body, status=faults.status, headers=CORS)
            case GatewayFault.HANG:
                await anyio.sleep(faults.remaining_s)
                return web.json_response({"message": "upstream timed out"}, status=504)
            case GatewayFault.CUT:
                return await _cut_answer(request, await handler(request))
        return await handler(request)

    return spoil


async def _cut_answer(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Promise the whole answer, send half of it, and break the connection."""
    body = response.body if isinstance(response, web.Response) else None
    content = bytes(body) if isinstance(body, bytes | bytearray) else b"{}"
    broken = web.StreamResponse(
        status=response.status,
        headers={"Content-Type": "application/json", "Content-Length": str(len(content) + 1)},
    )
    await broken.prepare(request)
    await broken.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.abort()
    return broken


def _page(about: dict[str, str]) -> Handler:
    items = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in about.items()
    )
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>wabridge sandbox</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:42rem;margin:3rem auto;padding:0 1rem}"
        "dt{font-weight:600;margin-top:.6rem}dd{margin:0;font-family:ui-monospace,monospace}"
        "</style><h1>wabridge sandbox</h1><p>Everything runs on this machine. Keys are in "
        f"<code>.sandbox/env</code>.</p><dl>{items}</dl></html>"
    )

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    return page


async def _no_functions(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    body = {"code": "NOT_FOUND", "message": f"The sandbox runs no Edge Functions yet: {name!r}"}
    return web.Response(
        status=404, text=json.dumps(body), content_type="application/json", charset="utf-8"
    )

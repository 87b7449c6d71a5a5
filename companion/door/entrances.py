"""The three ways in: as whoever sits here, as a user who signs in, as a visitor of a demo.

Knows how each recognises a person in a request, and what a stranger is told. It does not know
passwords, expiry, or what a person may do.
"""

from __future__ import annotations

import secrets
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from companion.domain import LOCAL_PERSON, Person
from companion.errors import CompanionError, InvalidInput, NotSignedIn, TooMany
from companion.people.identity import WHO
from companion.people.people import LONGEST_LOGIN, People
from companion.people.visitors import Visitors
from companion.ui.login_page import login_page

VISITOR_HEADER = "x-companion-visitor"
LOGIN = "/login"
LONGEST_FORM = 20_000


class Entrance(Protocol):
    async def person(self, request: Request) -> Person | None:
        """Who asks; None: nobody that is known."""

    async def answer(self, request: Request) -> Response | None:
        """Of the entrance itself; None: it is not what was asked for."""

    def refusal(self, request: Request) -> Response | None:
        """What nobody gets to see; None: everybody may see this."""


class OwnMachine:
    """Whoever reaches the server sits in front of it."""

    async def person(self, request: Request) -> Person | None:
        return LOCAL_PERSON

    async def answer(self, request: Request) -> Response | None:
        return None

    def refusal(self, request: Request) -> Response | None:
        return None


class HouseKey:
    """The key in the data folder: who can read that folder has everything in it anyway."""

    def __init__(self, key: str) -> None:
        self._key = key

    def fits(self, request: Request) -> bool:
        return secrets.compare_digest(bearer_of(request).encode(), self._key.encode())


class SignedIn:
    """Users, by the cookie of their browser or the token of their program."""

    def __init__(self, people: People, key: HouseKey, port: int) -> None:
        self._people = people
        self._key = key
        # Cookies know no ports: two apps of one machine must not end each other's logins.
        self._cookie = f"companion-login-{port}"

    async def person(self, request: Request) -> Person | None:
        if token := bearer_of(request):
            if self._key.fits(request):
                return LOCAL_PERSON
            return await run_in_threadpool(self._people.by_token, token)
        login = request.cookies.get(self._cookie)
        return await run_in_threadpool(self._people.by_login, login) if login else None

    async def answer(self, request: Request) -> Response | None:
        match request.method, request.url.path:
            case (("GET" | "HEAD"), "/login"):
                return _page()
            case "POST", "/login":
                return await self._sign_in(request)
            case "POST", "/logout":
                return await self._sign_out(request)
            case _:
                return None

    def refusal(self, request: Request) -> Response | None:
        if request.url.path in _FOR_ALL:
            return None
        if request.method in ("GET", "HEAD") and request.url.path == "/":
            # Not the query: it names a chat, which the page finds again by itself.
            return RedirectResponse(LOGIN, 303)
        body = {"error": {"code": NotSignedIn.code, "message": WHO}}
        return JSONResponse(body, 401, {"WWW-Authenticate": 'Bearer realm="LLM Companion"'})

    async def _sign_in(self, request: Request) -> Response:
        try:
            name, password = await _form(request)
        except InvalidInput as error:
            return _page(error, status=422)
        address = request.client.host if request.client else ""
        try:
            secret = await run_in_threadpool(self._people.sign_in, name, password, address)
        except NotSignedIn as error:
            return _page(error, name, status=401)
        except TooMany as error:
            return _page(error, name, status=429)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            self._cookie,
            secret,
            max_age=int(LONGEST_LOGIN.total_seconds()),
            httponly=True,
            samesite="lax",
            secure=_is_encrypted(request),
        )
        return answer

    async def _sign_out(self, request: Request) -> Response:
        if login := request.cookies.get(self._cookie):
            await run_in_threadpool(self._people.sign_out, login)
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(self._cookie, httponly=True, samesite="lax", secure=_is_encrypted(request))
        return answer


class Visiting:
    """Anybody, by a secret that the browser made up. Not a cookie: in a frame there are none."""

    def __init__(self, visitors: Visitors, key: HouseKey) -> None:
        self._visitors = visitors
        self._key = key

    async def person(self, request: Request) -> Person | None:
        if self._key.fits(request):
            return LOCAL_PERSON
        secret = request.headers.get(VISITOR_HEADER)
        return await run_in_threadpool(self._visitors.admit, secret) if secret else None

    async def answer(self, request: Request) -> Response | None:
        return None

    def refusal(self, request: Request) -> Response | None:
        path = request.url.path
        # The page itself is the same for all; it knows its visitor by the first thing it asks for.
        if path in _FOR_ALL or path in _PAGE or path.startswith(_PAGE_PARTS):
            return None
        message = f"Send a secret of your own, of 32 to 200 characters, in the header {VISITOR_HEADER}."
        return JSONResponse({"error": {"code": NotSignedIn.code, "message": message}}, 401)


# Gradio asks itself for the first when it is launched.
_FOR_ALL = ("/gradio_api/startup-events", "/favicon.ico", "/robots.txt")
_PAGE = ("/", "/config", "/theme.css", "/gradio_api/theme.css", "/gradio_api/info", "/manifest.json")
_PAGE_PARTS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/gradio_api/app_id")


def bearer_of(request: Request) -> str:
    """The token of a program; empty if there is none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _is_encrypted(request: Request) -> bool:
    """The page was asked for over HTTPS, of us or of a proxy before us."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")


async def _form(request: Request) -> tuple[str, str]:
    """Name and password, as a browser sends them."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            raise InvalidInput("This is too long to be a name and a password.")
    fields = _fields(body)
    return fields.get("name", ""), fields.get("password", "")


def _fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10))
    except ValueError:
        raise InvalidInput("This is not a name and a password.") from None


def _page(error: CompanionError | None = None, name: str = "", *, status: int = 200) -> HTMLResponse:
    headers = {"cache-control": "no-store"}
    if isinstance(error, TooMany):
        headers["retry-after"] = str(max(round(error.wait_s), 1))
    return HTMLResponse(login_page(error.message if error else "", name[:200]), status, headers)

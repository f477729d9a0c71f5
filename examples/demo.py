"""What `make demo` serves: the city application with a page in front that shows what wsgidb does, and the guest book.

    WSGIDB_URL=sqlite:///cities.sqlite3 python examples/serve.py --app demo
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from time import perf_counter
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

import plain_wsgi
from kill_connections import kill_idle, rows
from wsgidb import DatabaseMiddleware
from wsgidb.errors import DatabaseUnavailable

sys.path.append(str(Path(__file__).with_name("guestbook")))  # a program of its own, with its templates
from guests import create_app, create_tables

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REQUEST = "/?city=London"
"""The request that is made before and after the kill."""
STATUS = "/-/wsgidb"
GUESTBOOK = "/guestbook"

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Answer:
    """How a request was answered."""

    status: str
    milliseconds: float


@dataclass(frozen=True)
class Recovery:
    """What happened when connections were killed."""

    killed: int
    before: Answer
    after: Answer
    events: list[str]


latest: deque[Recovery] = deque(maxlen=1)
killing = threading.Lock()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    def reply(status: str, text: str, *headers: tuple[str, str], kind: str = "text/plain") -> Iterable[bytes]:
        body = text.encode()
        usual = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(status, [*usual, ("Cache-Control", "no-store"), *headers])
        return [body]

    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/" if not environ.get("QUERY_STRING"):
            ((cities,),) = rows(environ["db.conn"], "SELECT COUNT(*) FROM city")
            nonce = token_urlsafe(16)
            policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
            policy += "; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            return reply("200 OK", page(cities, nonce), ("Content-Security-Policy", policy), kind="text/html")
        case "POST", "/kill":
            try:
                with killing:
                    latest.append(kill_and_recover())
            except DatabaseUnavailable as error:
                return reply("503 Service Unavailable", f"The database cannot be reached: {error}\n")
            return reply("303 See Other", "", ("Location", f"{environ.get('SCRIPT_NAME', '')}/#recovery"))
        case _, "/kill":
            return reply("405 Method Not Allowed", "Use POST.\n", ("Allow", "POST"))
    return others(environ, start_response)


# The guest book has a middleware of its own on the same Database, so its pages are excluded from the one around `app`.
database = plain_wsgi.application.database
others = DispatcherMiddleware(plain_wsgi.app, {GUESTBOOK: create_app(database)})
# The request that kills has no connection itself: its own would not be idle.
application = DatabaseMiddleware(app, database, exclude=["/kill", GUESTBOOK], status=STATUS)


def prepare() -> None:
    """Create the tables of the guest book, if there are none yet."""
    create_tables(database)


def page(cities: int, nonce: str) -> str:
    return templates.get_template("demo.html").render(
        cities=cities,
        nonce=nonce,
        status=STATUS,
        guestbook=GUESTBOOK,
        request=REQUEST,
        address=database.settings.address,
        strategy=database.settings.strategy_name,
        stats=database.stats(),
        recovery=latest[0] if latest else None,
    )


def kill_and_recover() -> Recovery:
    """Make a request, kill the idle connections, and make the request again."""
    before = ask()
    began = perf_counter()
    killed = kill_idle(database)
    after = ask()
    took = perf_counter() - began
    events = [event.text for event in database.stats().events if event.seconds <= took]
    return Recovery(killed, before, after, events)


def ask() -> Answer:
    """Make the request as a client does, but within this process."""
    began = perf_counter()
    response = Client(application).get(REQUEST)
    return Answer(response.status, 1000 * (perf_counter() - began))

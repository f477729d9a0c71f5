"""The city application in Werkzeug. README.md describes its requests and how to load the cities.

    WSGIDB_URL=sqlite:///cities.sqlite3 gunicorn --pythonpath examples werkzeug_app:application
"""

from __future__ import annotations

from werkzeug.exceptions import BadRequest, Conflict
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect, send_file
from werkzeug.wrappers import Request, Response

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import DatabaseMiddleware

URLS = Map([Rule("/", endpoint="index"), Rule("/cities", endpoint="listing"), Rule("/cities.csv", endpoint="download")])


def index(request: Request) -> Response:
    if request.method == "POST":
        return add(request)
    if name := request.args.get("city"):
        return Response(*answer(request.environ["db.conn"], name))
    raise BadRequest(HINT)


def add(request: Request) -> Response:
    names = request.form.getlist("city")
    try:
        add_cities(request.environ["db.conn"], names)
    except CityExists as error:
        raise Conflict(str(error)) from error  # rolls back what was added before
    return redirect(page_of(names[-1]), 303)


@Request.application
def app(request: Request) -> Response:
    match URLS.bind_to_environ(request.environ).match():  # raises NotFound if no url matches
        case "listing", _:
            return Response(list_cities(request.environ["db.conn"]))
        case "download", _:
            return send_file(CSV, request.environ)
    return index(request)


application = DatabaseMiddleware(app, transaction="request")

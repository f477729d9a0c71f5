"""The city application in Pyramid. README.md describes its requests. paste.ini wraps it in wsgidb.

    PYTHONPATH=examples pserve examples/paste.ini
    PYTHONPATH=examples gunicorn --paste examples/paste.ini
"""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest, HTTPConflict, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import FileResponse, Response

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of


def index(request: Request) -> Response:
    if name := request.params.get("city"):
        text, status = answer(request.environ["db.conn"], name)
        return Response(text, status, content_type="text/plain", charset="utf-8")
    raise HTTPBadRequest(HINT)


def add(request: Request) -> Response:
    names = request.POST.getall("city")
    try:
        add_cities(request.environ["db.conn"], names)
    except CityExists as error:
        raise HTTPConflict(str(error)) from error  # rolls back what was added before
    return HTTPSeeOther(page_of(names[-1]))


def listing(request: Request) -> Response:
    return Response(app_iter=list_cities(request.environ["db.conn"]), content_type="text/plain", charset="utf-8")


def main(global_config: dict[str, str], **settings: str) -> Any:
    """The ``paste.app_factory``: it makes the application alone, without wsgidb around it."""
    with Configurator(settings=settings) as config:
        config.add_route("index", "/")
        config.add_view(index, route_name="index", request_method="GET")
        config.add_view(add, route_name="index", request_method="POST")
        config.add_route("listing", "/cities")
        config.add_view(listing, route_name="listing")
        config.add_route("download", "/cities.csv")
        config.add_view(lambda request: FileResponse(CSV, request), route_name="download")
        return config.make_wsgi_app()

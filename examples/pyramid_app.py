"""The city application in Pyramid; paste.ini puts the database around it.

    PYTHONPATH=examples pserve examples/paste.ini
    PYTHONPATH=examples gunicorn --paste examples/paste.ini
"""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from cities import answer
from wsgidb import get_connection


def city(request: Request) -> Response:
    name = request.params.get("city")
    if not name:
        return Response("Name a city: /?city=London", status=400, content_type="text/plain", charset="utf-8")
    return Response(answer(get_connection(request.environ), name), content_type="text/plain", charset="utf-8")


def main(global_config: dict[str, str], **settings: str) -> Any:
    """The ``paste.app_factory``: the application alone, without its database."""
    with Configurator(settings=settings) as config:
        config.add_route("city", "/")
        config.add_view(city, route_name="city")
        return config.make_wsgi_app()

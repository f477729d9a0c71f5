"""The city application in Falcon. README.md describes its requests and how to load the cities.

    WSGIDB_URL=sqlite:///cities.sqlite3 gunicorn --pythonpath examples falcon_app:application
"""

from __future__ import annotations

import falcon
from falcon import Request, Response

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import DatabaseMiddleware


class Index:
    def on_get(self, req: Request, resp: Response) -> None:
        if not (name := req.get_param("city")):
            raise falcon.HTTPBadRequest(description=HINT)
        resp.content_type = falcon.MEDIA_TEXT
        resp.text, resp.status = answer(req.env["db.conn"], name)

    def on_post(self, req: Request, resp: Response) -> None:
        names = req.get_media()["city"]
        names = names if isinstance(names, list) else [names]
        try:
            add_cities(req.env["db.conn"], names)
        except CityExists as error:
            raise falcon.HTTPConflict(description=str(error)) from error  # rolls back what was added before
        raise falcon.HTTPSeeOther(page_of(names[-1]))


class Listing:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = list_cities(req.env["db.conn"])


class Download:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.content_type = "text/csv"
        resp.set_stream(CSV.open("rb"), CSV.stat().st_size)


app = falcon.App()
app.add_route("/", Index())
app.add_route("/cities", Listing())
app.add_route("/cities.csv", Download())

application = DatabaseMiddleware(app, transaction="request")

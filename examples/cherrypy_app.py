"""The city application in CherryPy. README.md describes its requests and how to load the cities.

    WSGIDB_URL=sqlite:///cities.sqlite3 gunicorn --pythonpath examples cherrypy_app:application
"""

from collections.abc import Iterator

import cherrypy
from cherrypy.lib.static import serve_file

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import Connection, DatabaseMiddleware, get_connection

cherrypy.config.update({"request.show_tracebacks": False})


def get_db() -> Connection:
    return get_connection(cherrypy.request.wsgi_environ)


class Cities:
    @cherrypy.expose
    def index(self, city: str | list[str] = "") -> bytes:
        if cherrypy.request.method == "POST":
            self.add([city] if isinstance(city, str) else city)
        if not city:
            raise cherrypy.HTTPError(400, HINT)
        text, cherrypy.response.status = answer(get_db(), str(city))
        cherrypy.response.headers["Content-Type"] = "text/plain; charset=utf-8"
        return text.encode()

    def add(self, names: list[str]) -> None:  # not exposed
        try:
            add_cities(get_db(), names)
        except CityExists as error:
            raise cherrypy.HTTPError(409, str(error)) from error  # rolls back what was added before
        raise cherrypy.HTTPRedirect(page_of(names[-1]), 303)

    @cherrypy.expose(["cities"])
    @cherrypy.config(**{"response.stream": True})
    def listing(self) -> Iterator[bytes]:
        return list_cities(get_db())

    @cherrypy.expose(["cities.csv"])
    def download(self) -> object:
        return serve_file(str(CSV), "text/csv")


application = DatabaseMiddleware(cherrypy.Application(Cities()), transaction="request")

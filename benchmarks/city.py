"""The city application as one row of the table runs it. The WSGI server imports it as ``city:application``.

It is configured by BENCH_ROW, BENCH_FRAMEWORK (flask or wsgi), BENCH_DRIVER (pymysql or mysqlclient) and BENCH_URL.
BENCH_OPTIONS may have further options of wsgidb's, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs

from peers import BY_NAME, SELECT, Driver, Source
from wsgidb import DatabaseMiddleware


def answer(conn: Any, name: str) -> str:
    with closing(conn.cursor()) as cursor:
        cursor.execute(SELECT, (name,))
        row = cursor.fetchone()
    number = None if row is None else row[0]
    return f'City "{name}" not found' if number is None else f'City "{name}" is #{number}'


def plain(source: Source | None) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        name = parse_qs(environ["QUERY_STRING"])["city"][0]
        if source is None:
            text = answer(environ["db.conn"], name).encode()
        else:
            conn = source.get()
            try:
                text = answer(conn, name).encode()
            finally:
                source.done(conn)
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(text)))])
        return [text]

    return app


def flask(source: Source | None) -> Any:
    from flask import Flask, g, request

    app = Flask(__name__)

    def get_db() -> Any:
        if source is None:
            return request.environ["db.conn"]
        if not hasattr(g, "db"):
            g.db = source.get()
        return g.db

    @app.teardown_appcontext
    def close_db(error: BaseException | None) -> None:
        if source is not None and hasattr(g, "db"):
            source.done(g.db)

    @app.route("/")
    def city() -> str:
        return answer(get_db(), request.args["city"])

    return app


def make() -> Any:
    row, url = BY_NAME[os.environ["BENCH_ROW"]], os.environ["BENCH_URL"]
    name = os.environ["BENCH_DRIVER"]
    tls: Any = os.environ.get("BENCH_TLS", "disabled")
    source = None if row.make is None else row.make(Driver(name, url, tls != "disabled"), url)
    app = {"wsgi": plain, "flask": flask}[os.environ["BENCH_FRAMEWORK"]](source)
    if source is not None:
        return app
    options = {**row.options, **json.loads(os.environ.get("BENCH_OPTIONS", "{}"))}
    rest = url.partition("://")[2]
    scheme = {"pymysql": "mysql+pymysql", "mysqlclient": "mysql+mysqldb"}[name]
    return DatabaseMiddleware(app, f"{scheme}://{rest}?charset=utf8mb4", ssl_mode=tls, **options)


application = make()

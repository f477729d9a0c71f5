"""The application that the cluster tests serve."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from typing import Any

import psycopg
import pymysql

from cluster.accounts import noted, transfer
from wsgidb import DatabaseMiddleware

logging.basicConfig(level=logging.WARNING)  # to the server's log

TEXT = [("Content-Type", "text/plain")]


def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An error of a statement is answered as frameworks do: with a page, and a status that has all rolled back."""
    _, name, number = environ["PATH_INFO"].split("/")
    status, text = "200 OK", number
    try:
        if name == "read":
            text = noted(environ["db.conn"], int(number))
        else:
            transfer(environ["db.conn"], int(number))
    except (pymysql.Error, psycopg.Error) as error:
        logging.getLogger("cluster").warning("%s: %r", number, error)
        status, text = "500 Internal Server Error", f"refused: {error.args[0]}"
    start_response(status, [*TEXT, ("Content-Length", str(len(text)))])
    return [text.encode()]


options = json.loads(os.environ["CLUSTER_OPTIONS"])
wrapped = DatabaseMiddleware(handle, os.environ["CLUSTER_URL"], transaction="request", **options)


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """What begins with /drain or /stats needs no connection."""
    name = environ["PATH_INFO"].split("/")[1]
    if name in ("transfer", "read"):
        return wrapped(environ, start_response)
    if name == "drain":
        wrapped.database.drain(over=0)  # at once, so that no two nodes are written to for long
    text = json.dumps(dataclasses.asdict(wrapped.database.stats()))
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(text)))])
    return [text.encode()]

"""A guest book in Flask: whoever has joined may sign it, and remove what they wrote. README.md says how to run it."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

from wsgidb import Database, DatabaseMiddleware, get_connection

SCHEMA = (Path(__file__).parent / "schema.sql").read_text()
LONGEST_NAME, LONGEST_MESSAGE, SHORTEST_PASSWORD = 40, 500, 8

book = Blueprint("book", __name__)


def create_app(database: Database | None = None) -> Flask:
    """Make the application. WSGIDB_URL says where the database is, unless a test gives one; with SECRET_KEY, logins
    outlast a restart. Each request is one transaction."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(),
        SESSION_COOKIE_SAMESITE="Lax",  # so that the forms of other sites act for nobody
        MAX_CONTENT_LENGTH=64 * 1024,
    )
    app.register_blueprint(book)
    app.add_template_filter(lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)), "moment")
    if database is None:
        wrapped = DatabaseMiddleware(app.wsgi_app, transaction="request", exclude=["/static"])
    else:
        wrapped = DatabaseMiddleware(app.wsgi_app, database, exclude=["/static"])
    app.wsgi_app = wrapped  # type: ignore[method-assign]  # as Flask's documentation recommends

    @app.cli.command("init-db")
    def init_db() -> None:
        """Create the tables, if there are none yet."""
        create_tables(wrapped.database)

    return app


def create_tables(database: Database) -> None:
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        for statement in SCHEMA.split(";\n"):
            if statement.strip():
                cursor.execute(statement)


def run(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement on the request's connection and return its rows. A value is written as ?, as sqlite3 has it."""
    conn = get_connection(request.environ)
    with closing(conn.cursor()) as cursor:
        cursor.execute(sql if isinstance(conn, sqlite3.Connection) else sql.replace("?", "%s"), values)
        return list(cursor.fetchall()) if cursor.description else []


def back(message: str | None = None) -> Response:
    """Send the guest to the page. It is a success, so what the request wrote is committed before the client sees it."""
    if message is not None:
        flash(message)
    return redirect(url_for("book.index"), 303)


def credentials() -> tuple[str, str]:
    return request.form.get("name", "").strip(), request.form.get("password", "")


@book.get("/")
def index() -> str:
    entries = run("SELECT id, guest, message, written FROM entry ORDER BY written DESC, id LIMIT 50")
    return render_template("index.html", entries=entries, guest=session.get("guest"))


@book.post("/join")
def join() -> Response:
    name, password = credentials()
    if not 0 < len(name) <= LONGEST_NAME or len(password) < SHORTEST_PASSWORD:
        return back(f"A name, and a password of at least {SHORTEST_PASSWORD} characters, please.")
    if run("SELECT name FROM guest WHERE name = ?", name):
        return back(f"There is a {name} already.")
    # Of two who take the same name at the same moment, the primary key lets one in; the other one gets an error.
    run("INSERT INTO guest (name, password) VALUES (?, ?)", name, generate_password_hash(password))
    session["guest"] = name
    return back(f"Welcome, {name}.")


@book.post("/login")
def login() -> Response:
    name, password = credentials()
    found = run("SELECT password FROM guest WHERE name = ?", name)
    if not found or not check_password_hash(found[0][0], password):
        return back("That name and password do not fit.")
    session["guest"] = name
    return back()


@book.post("/logout")
def logout() -> Response:
    session.clear()
    return back()


@book.post("/sign")
def sign() -> Response:
    guest = session.get("guest") or abort(403)
    message = request.form.get("message", "").strip()
    if not 0 < len(message) <= LONGEST_MESSAGE:
        return back(f"Between 1 and {LONGEST_MESSAGE} characters, please.")
    values = (secrets.token_hex(8), guest, message, int(time.time()))
    run("INSERT INTO entry (id, guest, message, written) VALUES (?, ?, ?, ?)", *values)
    return back()


@book.post("/entries/<entry>/remove")
def remove(entry: str) -> Response:
    guest = session.get("guest") or abort(403)
    found = run("SELECT guest FROM entry WHERE id = ?", entry) or abort(404)
    if found[0][0] != guest:
        abort(403)
    run("DELETE FROM entry WHERE id = ?", entry)
    return back()

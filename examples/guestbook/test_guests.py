"""The guest book's own tests: `pytest examples/guestbook`. They need no server, and nothing of them remains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from guests import create_app, create_tables
from wsgidb import Database
from wsgidb.testing import SandboxDatabase


@pytest.fixture
def database(wsgidb_sandbox: Callable[..., SandboxDatabase], tmp_path: Path) -> SandboxDatabase:
    url = f"sqlite:///{tmp_path}/guests.db"
    with Database(url) as real:
        create_tables(real)
    return wsgidb_sandbox(url, transaction="request")


@pytest.fixture
def client(database: SandboxDatabase) -> FlaskClient:
    return create_app(database).test_client()


def post(client: FlaskClient, path: str, **form: str) -> str:
    """Send a form, and return the text of the page to which it leads, or the status of the error."""
    answer = client.post(path, data=form)
    return client.get("/").text if answer.status_code == 303 else answer.status


def enter(client: FlaskClient, how: str = "join", name: str = "Ada", password: str = "difference") -> str:
    return post(client, f"/{how}", name=name, password=password)


def test_a_guest_joins_signs_and_removes(client: FlaskClient) -> None:
    assert "Nobody has signed yet" in client.get("/").text
    assert "Welcome, Ada." in enter(client)
    page = post(client, "/sign", message="<b>Hello</b>")
    assert "&lt;b&gt;Hello&lt;/b&gt;" in page
    path = page.partition('action="/entries/')[2].partition('"')[0]
    assert "Nobody has signed yet" in post(client, f"/entries/{path}")


def test_only_who_wrote_an_entry_removes_it(client: FlaskClient) -> None:
    enter(client)
    path = post(client, "/sign", message="Mine").partition('action="/entries/')[2].partition('"')[0]
    client.post("/logout")
    assert post(client, f"/entries/{path}") == "403 FORBIDDEN"
    enter(client, name="Grace")
    assert post(client, f"/entries/{path}") == "403 FORBIDDEN"
    assert post(client, "/entries/none/remove") == "404 NOT FOUND"
    assert "Mine" in client.get("/").text


def test_a_login_needs_the_password(client: FlaskClient) -> None:
    enter(client)
    client.post("/logout")
    assert "do not fit" in enter(client, "login", password="integral!")
    assert "do not fit" in enter(client, "login", name="Grace")
    assert "Log out" in enter(client, "login")


@pytest.mark.parametrize(("name", "password"), [("", "difference"), ("x" * 41, "difference"), ("Ada", "short")])
def test_who_may_not_join(client: FlaskClient, name: str, password: str) -> None:
    assert "please" in enter(client, name=name, password=password)


def test_a_name_is_taken_once(client: FlaskClient) -> None:
    enter(client)
    assert "There is a Ada already." in enter(client)


def test_who_may_not_sign(client: FlaskClient) -> None:
    assert post(client, "/sign", message="Hello") == "403 FORBIDDEN"
    enter(client)
    assert "characters, please" in post(client, "/sign", message=" ")
    assert "characters, please" in post(client, "/sign", message="x" * 501)


def test_the_database_is_away(client: FlaskClient, database: SandboxDatabase) -> None:
    with database.outage():
        assert client.get("/").status_code == 503
        with client.get("/static/style.css") as style:  # closes the file
            assert style.status_code == 200
    assert client.get("/").status_code == 200

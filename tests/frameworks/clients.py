"""Each framework's own test client, behind one signature; imported when asked for, as most of them are not there."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from wsgiref.validate import validator

from support.wsgi import Call

Form = Sequence[tuple[str, str]]
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    location: str | None = None

    @property
    def text(self) -> str:
        return self.body.decode()


Client = Callable[[Any, str, str, Form], Answer]
"""Sends one request to a WSGI application: its method, its target, and the fields of a form.

Where the framework lets a handler's exception out, the client does, too."""


def bare(application: Any, method: str, target: str, form: Form) -> Answer:
    """PEP 3333 by hand, under a lint."""
    data = urlencode(form).encode()
    path, _, query = target.partition("?")
    call = Call(
        validator(application), path, REQUEST_METHOD=method, QUERY_STRING=query, CONTENT_TYPE=FORM,
        CONTENT_LENGTH=str(len(data)), **{"wsgi.input": io.BytesIO(data)},
    )  # fmt: skip
    body = call.read()
    return Answer(int(call.status[:3]), body, call.headers.get("Location"))


def werkzeug(application: Any, method: str, target: str, form: Form) -> Answer:
    from werkzeug.datastructures import MultiDict
    from werkzeug.test import Client

    with Client(application).open(target, method=method, data=MultiDict(form)) as response:
        return Answer(response.status_code, response.data, response.location)


def flask(application: Any, method: str, target: str, form: Form) -> Answer:
    from werkzeug.datastructures import MultiDict

    with application.test_client().open(target, method=method, data=MultiDict(form)) as response:
        return Answer(response.status_code, response.data, response.location)


def falcon(application: Any, method: str, target: str, form: Form) -> Answer:
    """It has a lint in it."""
    from falcon.testing import TestClient

    headers = {"Content-Type": FORM} if form else {}
    result = TestClient(application).simulate_request(method, target, body=urlencode(form), headers=headers)
    return Answer(result.status_code, result.content, result.headers.get("Location"))


def webtest(application: Any, method: str, target: str, form: Form) -> Answer:
    """WebTest, which Bottle's and Pyramid's documents recommend; also for those whose own client does not speak WSGI.
    It has a lint in it."""
    from webtest import TestApp

    app = TestApp(application)
    if method == "POST":
        response = app.post(target, params=list(form), expect_errors=True)
    else:
        response = app.request(target, method=method, expect_errors=True)
    return Answer(response.status_int, response.body, response.location)

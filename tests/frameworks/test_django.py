"""Django's particulars: a test client that does not speak WSGI, and a connection of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from frameworks.kit import FRAMEWORKS, Framework
from frameworks.sites import InProcess


@pytest.fixture
def framework() -> Framework:
    return FRAMEWORKS["django"]


def test_its_client_needs_to_be_given_a_connection(make_site: Callable[..., InProcess]) -> None:
    """It calls views without any WSGI application, and so without middleware; its defaults become the environ."""
    site = make_site()
    with site.database.connection() as conn:
        response = Client(**{"db.conn": conn}).get("/", {"city": "London"})

    assert (response.status_code, response.content) == (200, b'City "London" is #770')
    with pytest.raises(KeyError, match=r"db\.conn"):
        Client().get("/", {"city": "London"})


def test_its_own_connection_is_another_with_a_transaction_of_its_own(make_site: Callable[..., InProcess]) -> None:
    """What the middleware rolls back leaves what the ORM wrote in the same request where it is."""
    site = make_site()
    from django.contrib.sessions.models import Session  # which asks for settings

    Session.objects.all().delete()

    assert site.request("POST", "/", "Glubbdubdrib", "London").status == 409
    assert not site.has("Glubbdubdrib")
    assert [session.get_decoded() for session in Session.objects.all()] == [{"added": 2}]

"""The city application in Django, with settings and views in one file. README.md describes its requests.

Django stores its sessions through a connection of its own, which is separate from the one in environ.

    export PYTHONPATH=examples DJANGO_SETTINGS_MODULE=django_app WSGIDB_URL=sqlite:///cities.sqlite3
    django-admin migrate && django-admin runserver
"""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import path

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import DatabaseMiddleware

ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DJANGO_DB", "django.sqlite3")}}
INSTALLED_APPS = ["django.contrib.sessions"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"]
ROOT_URLCONF, WSGI_APPLICATION = "django_app", "django_app.application"
SECRET_KEY, USE_TZ = "an example's", True


def index(request: HttpRequest) -> HttpResponse:
    conn = request.environ["db.conn"]
    if request.method == "POST":
        names = request.POST.getlist("city")
        request.session["added"] = request.session.get("added", 0) + len(names)  # in Django's database, always kept
        try:
            add_cities(conn, names)
        except CityExists as error:
            return HttpResponse(str(error), "text/plain", 409)  # rolls back what was added before
        return HttpResponseRedirect(page_of(names[-1]), status=303)
    text, status = answer(conn, request.GET["city"]) if request.GET.get("city") else (HINT, 400)
    return HttpResponse(text, "text/plain; charset=utf-8", status)


urlpatterns = [
    path("", index),
    path("cities", lambda request: StreamingHttpResponse(list_cities(request.environ["db.conn"]))),
    path("cities.csv", lambda request: FileResponse(CSV.open("rb"))),
]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_app")
application = DatabaseMiddleware(get_wsgi_application(), transaction="request")

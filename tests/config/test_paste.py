"""PasteDeploy: wsgidb as a filter in an ini file. A bad key there is a ConfigError that names it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from paste.deploy import loadapp

from support.wsgi import Call
from wsgidb import ConfigError, DatabaseMiddleware, paste
from wsgidb.config.options import OPTIONS

Load = Callable[[str], DatabaseMiddleware]

FILTER = """
[pipeline:main]
pipeline = db app
[filter:db]
use = egg:wsgidb
{keys}
[app:app]
use = call:config.test_paste:app_factory
"""
FILTER_APP = """
[filter-app:main]
use = egg:wsgidb
next = app
{keys}
[app:app]
use = call:config.test_paste:app_factory
"""
# `use = egg:wsgidb` prefers the entry point paste.filter_factory in both kinds of section.
BY_FUNCTION = FILTER.replace("use = egg:wsgidb", "paste.filter_app_factory = wsgidb.paste:filter_app_factory")


def app_factory(global_conf: dict[str, str], **local_conf: str) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        with environ["db.conn"] as conn:
            (number,) = conn.execute("SELECT 6 * 7").fetchone()
        start_response("200 OK", [])
        return [str(number).encode()]

    return app


@pytest.fixture(params=[FILTER, FILTER_APP, BY_FUNCTION], ids=["filter", "filter-app", "function"])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Load:
    """A function that loads an ini file whose section for wsgidb has these keys, through the installed entry points."""

    def load(keys: str) -> DatabaseMiddleware:
        ini = tmp_path / "app.ini"
        ini.write_text(request.param.format(keys=keys))
        made: DatabaseMiddleware = loadapp(f"config:{ini}")
        return made

    return load


def refusal(load: Load, keys: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(keys)
    return caught.value.text


def test_the_installed_package_has_the_entry_points() -> None:
    """``egg:wsgidb`` is found through the metadata of the installed package."""
    points = {point.group: point for point in distribution("wsgidb").entry_points if point.name == "main"}
    assert points["paste.filter_factory"].load() is paste.filter_factory
    assert points["paste.filter_app_factory"].load() is paste.filter_app_factory


def test_a_section_puts_the_database_around_the_app(load: Load) -> None:
    """A request has its connection. PasteDeploy replaces ``%(here)s``."""
    app = load("url = sqlite:///%(here)s/file.db")
    with app.database:
        assert Call(app).read() == b"42"
        assert app.database.stats().acquires == 1


def test_texts_become_the_options_types(load: Load) -> None:
    """Numbers, none, lists and callables are parsed as in the environment."""
    keys = """
url = mysql://app:p%%40ss@db.invalid/shop
strategy = thread-local
pool_size = 7
acquire_timeout = 0.5
max_idle = none
exclude = /static, /health
init_sql = SET a
  SET b
on_unavailable = config.test_paste:app_factory
transaction = request
commit_veto = config.test_paste:app_factory
key = shop.conn
"""
    settings = load(keys).settings
    assert settings.url is not None
    assert settings.url.password == "p@ss"
    assert (settings.strategy, settings.pool_size, settings.acquire_timeout) == ("thread-local", 7, 0.5)
    assert (settings.max_idle, settings.exclude) == (None, ("/static", "/health"))
    assert settings.init_sql == ("SET a", "SET b")
    assert callable(settings.on_unavailable)
    assert callable(settings.commit_veto)
    assert settings.key == "shop.conn"


def test_without_a_url_the_environment_is_asked(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no password needs to be in the file. The file's keys take precedence."""
    monkeypatch.setenv("WSGIDB_URL", "mysql://app@db.invalid/shop")
    monkeypatch.setenv("WSGIDB_POOL_SIZE", "3")
    settings = load("max_waiting = 5").settings
    assert (settings.address, settings.pool_size, settings.max_waiting) == ("mysql://app@db.invalid/shop", 3, 5)
    assert load("pool_size = 4").settings.pool_size == 4


def test_the_files_defaults_are_not_options(load: Load) -> None:
    """The keys of [DEFAULT] are for all sections, so they are not read as options of wsgidb."""
    settings = load("url = sqlite:///file.db\n[DEFAULT]\ndebug = true\nkey = x").settings
    assert settings.key == "db.conn"


NUMBERS = sorted(name for name, option in OPTIONS.items() if "number" in option.metadata["takes"].takes)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["many", "5 s", "1,5", "", "-1"])
def test_what_is_no_number_is_refused_by_its_key(load: Load, name: str, text: str) -> None:
    """The error shows the key, what it takes and what it got."""
    said = refusal(load, f"url = mysql://u@h/db\n{name} = {text}")
    assert said.startswith(f"{name}: takes a")
    assert f"got {text!r}" in said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("pol_size = 5", "unknown option 'pol_size' (did you mean 'pool_size'?)"),
        ("strategy = poled", "strategy: takes one of per-request, thread-local, pooled"),
        ("transaction = yes", "transaction: takes one of manual, autocommit, request"),
        ("exclude = static", "exclude: takes path prefixes"),
        ("on_unavailable = nowhere:app", "on_unavailable: takes a callable, or its module:name"),
        ("commit_veto = json:loads", "commit_veto: needs transaction=request"),
        ("key = conn", "key: takes an environ key with a dot in it"),
    ],
)
def test_other_bad_keys_are_refused_by_name(load: Load, keys: str, said: str) -> None:
    """A bad key is refused at start-up."""
    assert refusal(load, f"url = sqlite:///file.db\n{keys}").startswith(said)


def test_a_bad_url_is_refused_without_its_password(load: Load) -> None:
    """The error, which ends up in a log, shows no password."""
    said = refusal(load, "url = mysql://app:geheim@/shop")
    assert said.startswith("url: ")
    assert "geheim" not in said

"""A driver's package that is not installed, or that cannot be imported: the error says which, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wsgidb
from wsgidb.config.optional import PACKAGES
from wsgidb.drivers import DRIVERS

SCHEMES = {scheme: extra for scheme, (_, _, extra) in DRIVERS.items() if extra is not None}
ABSENT = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name == {package!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
"""
REFUSED = """
import wsgidb
try:
    wsgidb.Database("{url}", strategy="{strategy}")
except wsgidb.ConfigError as error:
    print(error.text)
"""


def refusal(url: str, path: Path | None = None, before: str = "", strategy: str = "pooled") -> str:
    """The ConfigError's message in a process of its own, whose packages come from `path` first."""
    found = [str(path or ""), str(Path(wsgidb.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", before + REFUSED.format(url=url, strategy=strategy)],
        capture_output=True, text=True, timeout=60, cwd=path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found))},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_missing_driver_package_names_the_extra(scheme: str) -> None:
    """It is found at start-up, and the error shows the command that installs it."""
    package = PACKAGES[SCHEMES[scheme]]
    before = ABSENT.format(package=package.partition(".")[0])
    expected = f"url: {scheme} needs the package {package}: pip install 'wsgidb[{SCHEMES[scheme]}]'"
    assert refusal(f"{scheme}://db.invalid/shop", before=before) == expected


@pytest.mark.parametrize("strategy", ["dbutils-pooled", "sqlalchemy"])
def test_a_missing_package_of_a_strategy_names_the_extra(strategy: str) -> None:
    """The same holds for the strategies on the pool of a library."""
    extra = strategy.partition("-")[0]
    expected = f"strategy: {strategy} needs the package {extra}: pip install 'wsgidb[{extra}]'"
    assert refusal("sqlite:///shop.db", before=ABSENT.format(package=extra), strategy=strategy) == expected


BROKEN = {
    "ImportError: no pq wrapper available": "raise ImportError('no pq wrapper available')",
    "ModuleNotFoundError: No module named 'no_such_library'": "import no_such_library",
    "AttributeError: 'NoneType' object has no attribute 'version'": "None.version",
}


@pytest.mark.parametrize("error", BROKEN)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_package_that_is_installed_but_broken_is_not_to_be_installed(
    scheme: str, error: str, tmp_path: Path
) -> None:
    """The error shows where the package is, and what went wrong in it."""
    package = PACKAGES[SCHEMES[scheme]]
    where = tmp_path
    for part in package.split("."):
        where = where / part
        where.mkdir()
        (where / "__init__.py").touch()
    (where / "__init__.py").write_text(BROKEN[error])
    expected = f"needs the package {package}, which is installed ({where}/__init__.py) but cannot be imported: {error}"
    assert refusal(f"{scheme}://db.invalid/shop", tmp_path) == f"url: {scheme} {expected}"


def test_a_module_that_hides_the_package_is_shown(tmp_path: Path) -> None:
    """A script named pymysql.py is imported in place of the package."""
    (tmp_path / "pymysql.py").touch()
    said = refusal("mysql://db.invalid/shop", tmp_path)
    assert f" the package pymysql, which is installed ({tmp_path}/pymysql.py) but " in said
    assert "'pymysql' is not a package" in said

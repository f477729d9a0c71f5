"""What is published: the source distribution and the wheel, as somebody gets them who has no clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import pytest

import wsgidb
from wsgidb.errors import SITE

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
LEFT_OUT = (".git", ".venv*", ".tox", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
LINK = re.compile(r"(?<=\]\()[^)\s]+")
EXTRAS = {
    *("mysql", "mysqlclient", "mysqlconnector", "postgresql"),
    *("dbutils", "sqlalchemy", "opentelemetry", "prometheus", "status"),
}


class Built(NamedTuple):
    sources: Path
    """The source distribution, unpacked."""
    wheel: Path
    files: set[str]
    """The files of the clone."""
    archives: list[Path]


def run(*command: object, cwd: Path, **environ: str) -> str:
    """What a program printed; it is an error if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both, the wheel from the unpacked source distribution, in a copy of the clone."""
    directory = tmp_path_factory.mktemp("packaging")
    clone = directory / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*LEFT_OUT))
    found = files(clone)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory / "dist", clone, cwd=directory)
    archives = sorted((directory / "dist").iterdir())
    wheel, archive = archives
    with tarfile.open(archive) as tar:
        # Python 3.11.2, which is Debian's, has no filters yet, and newer ones want one.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(directory / "sources")
    (sources,) = (directory / "sources").iterdir()
    return Built(sources, wheel, found, archives)


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        return Parser().parsestr(wheel.read(name).decode())


def test_the_source_distribution_is_complete(built: Built) -> None:
    """It has the documents, examples, tests and tools of a clone, and nothing that a clone has not."""
    theirs = {name for name in files(built.sources) if not name.startswith("wsgidb.egg-info/")}
    assert theirs - built.files == {"PKG-INFO"}
    assert {name for name in built.files - theirs if not name.startswith(".git")} == set()


def test_the_source_distribution_passes_its_tests(built: Built) -> None:
    """A part of the tests runs in it, with its own wsgidb, support and documents."""
    printed = run(
        sys.executable, "-c", "import wsgidb; print(wsgidb.__file__)", cwd=built.sources, PYTHONPATH=str(built.sources)
    )
    assert printed.strip() == str(built.sources / "wsgidb" / "__init__.py")
    printed = run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not server"),
        *("tests/lease", "tests/pool", "tests/test_layout.py", "tests/test_docs.py"),
        cwd=built.sources,
        PYTHONPATH=str(built.sources),
    )
    assert " passed" in printed
    assert " failed" not in printed


def test_the_metadata(metadata: Message) -> None:
    """The licence is an SPDX expression, the description is the README, and only the extras of users are named."""
    assert (metadata["Name"], metadata["Version"]) == ("wsgidb", wsgidb.__version__)
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert set(metadata.get_all("Provides-Extra") or []) == EXTRAS
    assert [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line] == []
    assert metadata["Description-Content-Type"] == "text/markdown"
    lines, theirs = (ROOT / "README.md").read_text().splitlines(), str(metadata.get_payload()).splitlines()
    assert [LINK.sub("", line) for line in theirs] == [LINK.sub("", line) for line in lines]


def test_the_links_of_the_metadata(metadata: Message) -> None:
    """They are absolute, and lead to the documentation's site; its own test knows whether it has the pages."""
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL") or [])
    assert urls == {"Documentation": SITE, "Changelog": f"{SITE}page/project/changes.html"}
    links = LINK.findall(str(metadata.get_payload()))
    assert len(links) > 40
    assert [link for link in links if not link.startswith(f"{SITE}page/")] == []


def test_the_classifiers(metadata: Message) -> None:
    """Each is one that the index knows, and the frameworks are those of the matrix."""
    known = pytest.importorskip("trove_classifiers").classifiers
    classifiers = set(metadata.get_all("Classifier") or [])
    assert classifiers - known == set()
    named = {line.partition(" :: ")[2].lower() for line in classifiers if line.startswith("Framework")}
    tested = re.findall(r"^    (\w+)(?:-!lowest)?: ", (ROOT / "tox.ini").read_text(), re.MULTILINE)
    assert named - {*tested, "paste", "pytest"} == set()


def test_the_pythons_of_the_metadata_are_those_of_the_matrix(metadata: Message) -> None:
    """Each Python that the classifiers promise is one on which tox tests, and the other way round."""
    classifiers = metadata.get_all("Classifier") or []
    versions = [line.rpartition(" ")[2].replace(".", "") for line in classifiers if "Python :: 3." in line]
    assert f"    py{{{','.join(versions)}}}-core\n" in (ROOT / "tox.ini").read_text()


def test_the_archives_are_fit_to_be_uploaded(built: Built, tmp_path: Path) -> None:
    """twine can show the description, and the wheel contains the package alone."""
    run(sys.executable, "-m", "twine", "check", "--strict", *built.archives, cwd=tmp_path)
    run(Path(sys.executable).with_name("check-wheel-contents"), built.wheel, cwd=tmp_path)
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {name for name in built.files if name.startswith("wsgidb/")}


@pytest.fixture
def project(built: Built, tmp_path: Path) -> Path:
    """A user's project, with a virtual environment in which the wheel is installed."""
    venv.create(tmp_path / ".venv")
    (site,) = (tmp_path / ".venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copy(ROOT / "tests" / "typed" / "samples" / "right.py", tmp_path)
    (tmp_path / "wrong.py").write_text('import wsgidb\n\nwsgidb.Database("sqlite:///", pool_size="four")\n')
    return tmp_path


@pytest.mark.parametrize(
    ("checker", "said"),
    [
        (["mypy", "--strict", "--config-file=", "--python-executable"], 'wrong.py:3: error: Argument "pool_size"'),
        (["basedpyright", "--pythonpath"], 'error: Argument of type "Literal[\'four\']"'),
    ],
    ids=["mypy", "pyright"],
)
def test_type_checkers_read_the_types_of_the_wheel(project: Path, checker: list[str], said: str) -> None:
    """In a user's project, mypy and Pyright accept what is right and find a mistake in an option, and nothing else."""
    (project / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard", "include": ["*.py"]}')
    program = Path(sys.executable).with_name(checker[0])
    command = [str(program), *checker[1:], str(project / ".venv" / "bin" / "python")]
    for name, errors in (("right.py", 0), ("wrong.py", 1)):
        done = subprocess.run([*command, name], cwd=project, capture_output=True, text=True, timeout=170)
        assert (done.returncode, done.stdout.count(" error: ")) == (errors, errors), done.stdout + done.stderr
    assert said in done.stdout

"""README and docs/ agree with the code: their examples run, the tests and files that they name exist."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from support.mariadb import MariaDB
from support.wsgi import Call
from wsgidb.config.pool_options import STRATEGIES

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "project")  # those there include documents
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "examples").rglob("*.md")), *PAGES]
GUARANTEES = {f"{group}{number}" for group, last in (("R", 15), ("C", 7), ("S", 10)) for number in range(1, last + 1)}
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")


def blocks(document: Path) -> list[str]:
    """The blocks of Python code in a document."""
    return re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


def rows(document: Path, heading: str) -> list[list[str]]:
    """The rows of the tables below a heading, without the head rows."""
    text = document.read_text().partition(heading)[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    lines = [line for number, line in enumerate(lines) if "| ---" not in line + "".join(lines[number + 1 : number + 2])]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


class TestReadme:
    MYSQL, SQLITE = blocks(ROOT / "README.md")

    def test_its_start_with_sqlite_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The example runs unchanged and answers 42, because it is the first thing that a reader tries."""
        monkeypatch.chdir(tmp_path)
        self.answers(self.SQLITE)

    @pytest.mark.server
    def test_its_start_with_mysql_answers(self, mariadb: MariaDB) -> None:
        """So does the other one, once the url is that of a server."""
        (url,) = re.findall(r'"(mysql[^"]*)"', self.MYSQL)
        self.answers(self.MYSQL.replace(url, mariadb.url()))

    def answers(self, code: str) -> None:
        names: dict[str, Any] = {}
        exec(code, names)
        with names["app"].database as database:
            call = Call(names["app"])
            assert (call.status, call.read()) == ("200 OK", b"42\n")
            assert database.settings.strategy == "pooled"

    def test_its_starts_are_short(self) -> None:
        """They have six and eight lines, including the import."""
        lengths = [len([line for line in code.splitlines() if line]) for code in (self.MYSQL, self.SQLITE)]
        assert lengths == [8, 6]

    def test_it_installs_what_exists(self) -> None:
        """Each extra that the line of pip names is one of the package's."""
        (extra, others) = re.findall(r'pip install "\.\[(\w+)\]" +# or ([\w, ]+);', (ROOT / "README.md").read_text())[0]
        setup = (ROOT / "setup.cfg").read_text()
        assert [name for name in (extra, *others.split(", ")) if f"\n{name} =\n" not in setup] == []

    def test_its_table_has_every_strategy(self) -> None:
        """The table has every strategy, and tells when to choose it."""
        found = rows(ROOT / "README.md", "## Strategies")
        assert {cells[0].split("`")[1] for cells in found} == set(STRATEGIES)
        assert all(cells[2] for cells in found)

    def test_its_commands_exist(self) -> None:
        """The commands are targets of the Makefile."""
        makefile = (ROOT / "Makefile").read_text()
        for target in ("demo", "quick", "test"):
            assert f"    make {target} " in (ROOT / "README.md").read_text()
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Each link to a file of the project leads to a file that exists."""
    broken = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert broken == []


def anchors(document: Path) -> set[str]:
    """What a link can name of a document: its headings, as GitHub makes anchors of them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_headings(document: Path) -> None:
    """Each link to a part of a document leads to a heading that exists."""
    found = [link.partition("#") for link in re.findall(r"\]\((?!https?:)([^)\s]*#[^)\s]+)\)", document.read_text())]
    broken = [
        f"{path}#{part}"
        for path, _, part in found
        if part not in anchors((document.parent / path).resolve() if path else document)
    ]
    assert broken == []


def test_the_readme_leads_to_every_document() -> None:
    """Following links from the README reaches every document."""
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        document = ahead.pop()
        reached.add(document)
        links = [(document.parent / link).resolve() for link in LINK.findall(document.read_text())]
        ahead += [path for path in links if path.suffix == ".md" and path not in reached]
    assert [path.name for path in DOCUMENTS if path not in reached] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_is_python(document: Path) -> None:
    """Each Python block parses, and what it imports from wsgidb exists, even if it cannot run by itself."""
    for block in blocks(document):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wsgidb"):
                exec(ast.unparse(node), {})


class TestGuarantees:
    TEXT = (DOCS / "guarantees.md").read_text()

    def test_every_guarantee_has_tests(self) -> None:
        """The page has each guarantee once, in words and with at least two tests."""
        sections = re.split(r"^### ", self.TEXT.partition("\n## What does not apply")[0], flags=re.MULTILINE)[1:]
        labels = [section.partition(":")[0] for section in sections]
        assert sorted(labels) == sorted(GUARANTEES)
        for section in sections:
            assert section.count(".py::test_") + section.count("::Test") >= 2, section

    def test_the_summary_has_every_guarantee(self) -> None:
        """Each is in one row of the table for users."""
        cells = [cell for row in rows(DOCS / "guarantees.md", "## In short") for cell in row]
        assert sorted(re.findall(r"\[([RCS]\d+)\]\(#", " ".join(cells))) == sorted(GUARANTEES)

    def test_every_test_that_is_named_exists(self) -> None:
        """Each test that the page names exists, so a renamed test must be renamed in the page."""
        named = re.findall(r"^- `(\S+\.py)::(\S+)`$", self.TEXT, re.MULTILINE)
        assert len(named) >= 2 * len(GUARANTEES)
        assert [f"{path}::{name}" for path, name in named if name not in defined(ROOT / "tests" / path)] == []

    def test_every_file_that_is_named_exists(self) -> None:
        """Each test file that the page names exists."""
        named = re.findall(r"`([\w/]+\.py)`", self.TEXT)
        assert [path for path in named if not (ROOT / "tests" / path).exists()] == []


class TestTesting:
    TEXT = (DOCS / "testing.md").read_text()

    def test_it_names_only_what_exists(self) -> None:
        """The directories of tests, and the modules in the table of mutants, exist."""
        assert [path for path in re.findall(r"`(tests/[\w/]+)`", self.TEXT) if not (ROOT / path).exists()] == []
        modules = {cells[0].strip("`") for cells in rows(DOCS / "testing.md", "## Mutants")}
        assert {name for name in modules if not (ROOT / "wsgidb" / f"{name}.py").exists()} == set()

    def test_every_module_of_the_program_exists(self) -> None:
        """tools/mutants names modules and tests that exist."""
        for name, (tests, _) in runpy.run_path(str(ROOT / "tools" / "mutants"))["MODULES"].items():
            paths = [word for word in tests.split() if word.startswith("tests")]
            assert paths
            assert [path for path in [f"wsgidb/{name}.py", *paths] if not (ROOT / path).exists()] == []


class TestFaults:
    TEXT = (DOCS / "faults.md").read_text()

    def test_every_scenario_has_an_outcome_and_tests(self) -> None:
        """The page has all fifteen scenarios, and no row has an empty cell."""
        scenarios = rows(DOCS / "faults.md", "# Faults")
        assert {cells[0] for cells in scenarios} == {str(number) for number in range(1, 16)}
        for cells in scenarios + rows(DOCS / "faults.md", "## What an attacker"):
            assert all(cells), cells
            assert ".py::test_" in cells[-1], cells

    def test_every_test_that_is_named_exists(self) -> None:
        """Each test that the page names exists, so a renamed test must be renamed in the page."""
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", self.TEXT)
        assert len(named) > 50
        assert [f"{path}::{name}" for path, name in named if name not in defined(ROOT / "tests" / path)] == []

    def test_every_fault_test_is_named(self) -> None:
        """The page names each file in tests/faults."""
        files = {f"faults/{path.name}" for path in (ROOT / "tests" / "faults").glob("test_*.py")}
        assert {file for file in files if file not in self.TEXT} == set()


def defined(path: Path) -> set[str]:
    """The names of the tests in a file; a test in a class is named as pytest names it."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


class TestArchitecture:
    def test_it_names_every_folder_and_no_other(self) -> None:
        """The table has the package's folders, and the modules that stand outside of them."""
        named = {name for cells in rows(DOCS / "architecture.md", "## Where things live") for name in
                 re.findall(r"`(wsgidb/\S+)`", cells[0])}  # fmt: skip
        package = ROOT / "wsgidb"
        modules = {f"wsgidb/{path.name}" for path in package.glob("*.py")} - {"wsgidb/__init__.py"}
        folders = {f"wsgidb/{path.parent.name}/" for path in package.glob("*/__init__.py")}
        assert named == modules | folders

    def test_it_names_only_what_exists(self) -> None:
        """The files and directories that the page names exist."""
        named = re.findall(
            r"`((?:wsgidb|tests|examples|benchmarks|tools)/[\w/.]*)`", (DOCS / "architecture.md").read_text()
        )
        assert len(named) > 20
        assert [path for path in named if not (ROOT / path).exists()] == []


APPLICATIONS = blocks(DOCS / "testing-your-app.md")
SHOWN = {heading[1]: block for block in APPLICATIONS if (heading := re.match(r"# (\w+\.py)\n", block))}
OTHERS = [block for block in APPLICATIONS if block not in SHOWN.values()]


class TestTestingYourApp:
    @pytest.mark.parametrize(
        ("files", "passed"),
        [
            (("shop.py", "conftest.py", "test_shop.py"), 5),
            (("guests.py", "test_guests.py"), 2),
            (("factory.py", "test_factory.py"), 1),
        ],
        ids=["shop", "Flask", "factory"],
    )
    def test_its_examples_pass(self, pytester: pytest.Pytester, files: tuple[str, ...], passed: int) -> None:
        """The files that the page shows pass under a pytest of their own."""
        for name in files:
            (pytester.path / name).write_text(SHOWN[name])
        pytester.syspathinsert()
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
        result.assert_outcomes(passed=passed)
        assert not (pytester.path / "unused.db").exists()

    @pytest.mark.server
    def test_its_parallel_example_passes(
        self, pytester: pytest.Pytester, own_mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two processes insert the same keys at the same time, each into its own database, and nothing is left."""
        monkeypatch.setenv("TEST_PORT", str(own_mariadb.port))
        (pytester.path / "test_parallel.py").write_text(SHOWN["test_parallel.py"])
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "-W", "error")
        result.assert_outcomes(passed=4)
        for worker in ("gw0", "gw1"):
            assert own_mariadb.query(f"SELECT COUNT(*) FROM shop_test_{worker}.orders") == [(0,)]

    def test_every_file_is_run(self) -> None:
        """The page shows no file that the tests above leave out."""
        assert len(SHOWN) == 8
        assert len(OTHERS) == 1

    def test_its_other_block_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The example without pytest runs twice, so it leaves nothing behind."""
        monkeypatch.chdir(tmp_path)
        for _ in range(2):
            exec(OTHERS[0], {})


@pytest.mark.server
class TestWhy:
    WHY = runpy.run_path(str(ROOT / "benchmarks" / "why.py"))

    def test_the_lost_write(self, own_mariadb: MariaDB) -> None:
        """DBUtils loses the write without an error and wsgidb reports it, with the results on the page."""
        found = self.WHY["write"](own_mariadb)
        assert {name: told for name, (told, _) in found.items()} == {
            "DBUtils PooledDB": "no error",
            "DBUtils PersistentDB": "no error",
            "wsgidb pooled": "error 2013",
        }
        table = rows(DOCS / "why.md", "(`why.py write`)")
        assert [", ".join(map(str, balances)) for _, balances in found.values()] == [cells[2] for cells in table]
        assert [told for told, _ in found.values()] == [cells[1].partition(" (")[0] for cells in table]

    def test_the_round_trips(self, own_mariadb: MariaDB) -> None:
        """The commands that are sent are those on the page, and as many."""
        found = self.WHY["trips"](own_mariadb)
        for (_, count, names), commands in zip(rows(DOCS / "why.md", "(`why.py trips`)"), found.values(), strict=True):
            assert int(count) == len(commands)
            said = names.removesuffix(", and the login before them").split(", ")
            assert said == [re.sub("QUERY (SET NAMES|[A-Z]+).*", r"\1", command) for command in commands]

    def test_each_section_is_one_of_the_programs(self) -> None:
        """The sections that the page names are those of benchmarks/why.py."""
        named = set(re.findall(r"`why\.py ([\w-]+)`", (DOCS / "why.md").read_text()))
        assert named == set(self.WHY["SECTIONS"])

    @pytest.mark.slow
    @pytest.mark.parametrize("section", ["connect", "connect-sqlite", "checkout", "lock"])
    def test_which_is_faster(self, own_mariadb: MariaDB, section: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first source is the slowest on every machine, though the figures differ."""
        measure = self.WHY["SECTIONS"][section]
        monkeypatch.setitem(measure.__globals__, "ROUNDS", 3)
        monkeypatch.setitem(measure.__globals__, "SECONDS", 0.1)
        measured = list(measure(own_mariadb).values())
        assert measured[0] < min(measured[1:])

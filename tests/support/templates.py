"""The messages that wsgidb's code can raise or log, as templates, found in its syntax trees."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import wsgidb
from support.quoted import fits
from wsgidb import errors

PACKAGE = Path(wsgidb.__file__).parent
ANY = "\0"
"""Stands in a template for what differs from case to case."""

RAISED = re.compile(r"(Error|Unavailable|Timeout|Overloaded|Returned|Lost)$|\boperational_error$|^warnings\.warn$")
LEVELS = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}
REASONED = ("str | None", "State | str", "tuple[Slot, str] | None")
"""What the functions return that tell why a connection cannot be kept."""

Scopes = list[Any]


@dataclass(frozen=True)
class Template:
    """A message of the code, the place where it stands, and its level if it is logged."""

    text: str
    where: str
    level: str = ""
    """Of a line of the log."""
    entry: str = ""
    """Of an error of wsgidb: the anchor to which its link leads."""

    def is_shown_as(self, line: str) -> bool:
        """Whether a line of a page shows this message. Either of them may be more definite than the other."""
        parts = self.text.split(ANY)
        return re.fullmatch(".*".join(map(re.escape, parts)), line) is not None or fits(line, self.text)

    @property
    def is_definite(self) -> bool:
        """Whether it has text of its own, and does not only put together what was made elsewhere."""
        return letters(self.text) > 4

    def __str__(self) -> str:
        return f"{self.where}: {self.text.replace(ANY, '<…>')}"


class Module:
    """One module of wsgidb, and the package that its names and attributes are looked up in."""

    def __init__(self, path: Path) -> None:
        self.path = path.relative_to(PACKAGE.parent).as_posix()
        self.tree = ast.parse(path.read_text())
        self.name = self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def inner(self) -> Iterator[tuple[Any, Scopes]]:
        """Each node, with the functions around it."""

        def walk(node: Any, scopes: Scopes) -> Iterator[tuple[Any, Scopes]]:
            yield node, scopes
            inside = [*scopes, node] if isinstance(node, ast.FunctionDef) else scopes
            for child in ast.iter_child_nodes(node):
                yield from walk(child, inside)

        return walk(self.tree, [])

    def texts(self, node: Any, scopes: Scopes, attributes: dict[str, set[str]]) -> set[str]:
        """The templates that an expression may be."""
        if isinstance(node, ast.Constant):
            return {str(node.value)}
        if isinstance(node, ast.JoinedStr):
            return joined([self.texts(part, scopes, {}) for part in node.values])
        if isinstance(node, ast.FormattedValue):
            named = isinstance(node.value, ast.Name) and node.value.id.isupper()
            return self.texts(node.value, [], {}) if named else {ANY}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return joined([self.texts(node.left, scopes, {}), self.texts(node.right, scopes, {})])
        if isinstance(node, ast.BoolOp):
            return set().union(*(self.texts(value, scopes, attributes) for value in node.values))
        if isinstance(node, ast.IfExp):
            return self.texts(node.body, scopes, attributes) | self.texts(node.orelse, scopes, attributes)
        if isinstance(node, ast.Attribute):
            return attributes.get(node.attr, {ANY})
        if isinstance(node, ast.Name):
            return self._named(node.id, scopes, attributes)
        return {ANY}

    def _named(self, name: str, scopes: Scopes, attributes: dict[str, set[str]]) -> set[str]:
        """What a name stands for: what is assigned to it in the functions around it, or a constant of the module."""
        values = [
            node.value
            for scope in scopes
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id == name for at in node.targets)
        ]
        if values:
            return set().union(*(self.texts(value, [], attributes) for value in values))
        constant = getattr(importlib.import_module(self.name), name, None)
        return {str(constant)} if isinstance(constant, (str, int)) else {ANY}


def joined(parts: list[set[str]]) -> set[str]:
    """Every way to put one of each together."""
    return {re.sub(f"{ANY}+", ANY, "".join(each)) for each in product(*parts)}


def letters(text: str) -> int:
    return sum(map(str.isalpha, text))


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]


def assigned(name: str) -> set[str]:
    """The texts that are assigned to an attribute of that name anywhere."""
    found: set[str] = set()
    for module in MODULES:
        for node, scopes in module.inner():
            if not isinstance(node, ast.Assign):
                continue
            targets = [at for target in node.targets for at in ast.walk(target)]
            if any(getattr(at, "attr", None) == name for at in targets):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                found = found.union(*(module.texts(value, scopes, {}) for value in values))
    return {text for text in found if letters(text)} - {"None"}


def raised() -> Iterator[Template]:
    """The texts of all exceptions that are made with one."""
    attributes = {"lost": assigned("lost")}
    for module in MODULES:
        for node, scopes in module.inner():
            if isinstance(node, ast.Call) and RAISED.search(ast.unparse(node.func)):
                for argument in [*node.args, *(one.value for one in node.keywords if one.arg == "msg")]:
                    for text in module.texts(argument, scopes, attributes):
                        if " " in text:
                            yield Template(text, f"{module.path}:{node.lineno}", entry=entry_of(node))


def entry_of(call: ast.Call) -> str:
    """The entry of an error that is made by a call, if it is wsgidb's."""
    kind = getattr(errors, ast.unparse(call.func), None)
    given = [word.value for word in call.keywords if word.arg == "entry"]
    if given and isinstance(given[0], ast.Constant):
        return str(given[0].value)
    return "" if given or kind is None else str(kind.entry)


def logged() -> Iterator[Template]:
    """All calls of the logger."""
    for module in MODULES:
        for node, scopes in module.inner():
            if isinstance(node, ast.Call) and (method := re.fullmatch(r"log\.(\w+)", ast.unparse(node.func))):
                for text in module.texts(node.args[0], scopes, {}):
                    text = re.sub(rf"(%[-+#0-9.]*[a-z]|{ANY})+", ANY, text)
                    yield Template(" ".join(text.split()), f"{module.path}:{node.lineno}", LEVELS[method[1]])


def reasons(*calls: str) -> set[str]:
    """The reasons that are given to functions of these names, at the end of their arguments."""
    found = set()
    for module in MODULES:
        for node, scopes in module.inner():
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in calls:
                for argument in node.args:
                    found |= module.texts(argument, scopes, {})
    return {text for text in found if letters(text)}


def returned(folder: str) -> set[str]:
    """The reasons that functions of a folder, or of a module, return."""
    found: set[str] = set()
    for module in MODULES:
        for node, scopes in module.inner():
            if not isinstance(node, ast.Return) or not module.path.startswith(f"wsgidb/{folder}") or not scopes:
                continue
            if scopes[-1].returns is not None and ast.unparse(scopes[-1].returns) in REASONED:
                pairs: list[Any] = [inner.elts[1] for inner in ast.walk(node) if isinstance(inner, ast.Tuple)]
                found = found.union(*(module.texts(value, scopes, {}) for value in pairs or [node.value]))
    return {text for text in found if letters(text)} - {"None"}

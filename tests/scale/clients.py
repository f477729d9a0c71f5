"""A client that keeps cookies, or sends headers back, or does neither."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

from support.wsgi import Call

HEADER = "Wsgidb-Position"


class Client:
    """Calls an application in this process."""

    def __init__(self, app: Any, keeps: str = "cookies") -> None:
        self.app, self.keeps = app, keeps
        self.cookies: dict[str, str] = {}
        self.position: str | None = None
        self.headers: list[tuple[str, str]] = []
        """Those of the latest response."""

    def ask(self, method: str, path: str, **environ: Any) -> tuple[str, int]:
        """What the application tells: whether a note was found, and on which server."""
        if self.keeps == "cookies" and self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if self.keeps == "header" and self.position:
            environ["HTTP_WSGIDB_POSITION"] = self.position
        call = Call(self.app, path, REQUEST_METHOD=method, **environ)
        body = call.read().decode()
        self.headers = call.started[-1][1]
        self._keep()
        found, _, server = body.removeprefix("begun").partition(" ")
        return found, int(server)

    def _keep(self) -> None:
        for name, value in self.headers:
            if name == HEADER:
                self.position = value
            if name == "Set-Cookie":
                ((key, morsel),) = SimpleCookie(value).items()
                if morsel["max-age"] == "0":
                    self.cookies.pop(key, None)
                else:
                    self.cookies[key] = morsel.value

    def write(self, n: int, how: str = "write") -> tuple[str, int]:
        return self.ask("POST", f"/{how}/{n}")

    def read(self, n: int) -> tuple[str, int]:
        return self.ask("GET", f"/read/{n}")

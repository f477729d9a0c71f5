"""The smallest WSGI server there is: it calls an application once and keeps all that the application did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults


def environment(path: str = "/", **environ: Any) -> dict[str, Any]:
    """A complete environ for one request."""
    made = {"PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", **environ}
    setup_testing_defaults(made)
    return made


class Call:
    """One request. `body` is what the application returned, as it is: nothing was iterated or closed yet."""

    def __init__(self, app: Callable[..., Any], path: str = "/", **environ: Any) -> None:
        self.environ = environment(path, **environ)
        self.started: list[tuple[Any, ...]] = []
        """The arguments of each call of start_response."""
        self.written: list[bytes] = []
        self.body = app(self.environ, self._start_response)

    def _start_response(self, *args: Any) -> Callable[[bytes], None]:
        self.started.append(args)
        return self.written.append

    @property
    def status(self) -> str:
        return str(self.started[-1][0])

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.started[-1][1])

    def read(self) -> bytes:
        """What a client gets: the body iterated to its end and closed, as PEP 3333 asks of a server."""
        try:
            return b"".join([*self.written, *self.body])
        finally:
            if hasattr(self.body, "close"):
                self.body.close()

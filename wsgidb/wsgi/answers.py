"""wsgidb's own responses, and its opinion of the application's."""

from __future__ import annotations

from .exchange import Environ, StartResponse


def default_veto(environ: Environ, status: str, headers: list[tuple[str, str]]) -> bool:
    """Decide that a status of 400 or above is rolled back with transaction=request, unless commit_veto is given."""
    return status[:1] not in ("1", "2", "3")


def plain_answer(
    environ: Environ, start_response: StartResponse, status: str, extra: list[tuple[str, str]]
) -> list[bytes]:
    """Send a plain response that reveals nothing about the database."""
    text = f"{status[4:]}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text))), *extra]
    start_response(status, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [text]

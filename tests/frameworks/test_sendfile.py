"""R3: a download goes by the system call sendfile where the framework lets it, the middleware notwithstanding."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cities import CSV
from frameworks.kit import Framework
from frameworks.sites import serving
from support.rawhttp import request
from support.server_kinds import GUNICORN, SERVERS, Kind
from support.waiting import until

SIZE = CSV.stat().st_size


def test_gunicorn_sends_a_download_by_sendfile(framework: Framework, cities: Path, tmp_path: Path) -> None:
    """Every byte of the body, counted where the server makes the call; CherryPy and web.py read the file themselves."""
    with serving("gunicorn sync", framework, tmp_path / "log", WSGIDB_URL=f"sqlite:///{cities}") as server:
        reply = request(server.port, "/cities.csv")
        stats = json.loads(request(server.port, "/stats").body)

    assert (reply.status, reply.body) == (200, CSV.read_bytes())
    assert stats["sent"] == (SIZE if framework.wrapper else 0)
    assert (stats["acquires"], stats["leased"]) == (1, 0)


@pytest.mark.slow
def test_strace_sees_the_sendfile(
    framework: Framework, cities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, by strace. It runs beside gunicorn, whose master gets the signal to end."""
    trace = tmp_path / "trace"
    strace = f"strace --daemonize --follow-forks --trace=sendfile --output={trace} {GUNICORN} {{app}}"
    monkeypatch.setitem(SERVERS, "gunicorn under strace", Kind(strace))
    with serving("gunicorn under strace", framework, tmp_path / "log", WSGIDB_URL=f"sqlite:///{cities}") as server:
        assert request(server.port, "/cities.csv").body == CSV.read_bytes()

    # The master, whose last child this was.
    until(lambda: re.search(r"SIGCHLD.*\n.* exited with 0 \+\+\+\n$", trace.read_text()), what="strace to see the end")
    sent = [int(count) for count in re.findall(r"sendfile\(.*\) = (\d+)", trace.read_text())]
    assert sum(sent) == (SIZE if framework.wrapper else 0)

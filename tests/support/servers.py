"""A WSGI server as a process of its own on a free port; `server_kinds` has the table of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from support import apache
from support.ports import bind
from support.processes import asleep
from support.server_kinds import HOST, SERVERS
from support.waiting import until


class Server:
    """One running server; a context manager. `log` gets all it says."""

    def __init__(
        self,
        name: str,
        app: str,
        log: Path,
        path: list[str],
        threads: int | None = None,
        recycle: int | None = None,
        /,
        **environ: str,
    ) -> None:
        """*app* is ``module:name``, found in *path*; *environ* is added to ours. *threads* is for those that have a
        command line with that; processes that served *recycle* requests are replaced."""
        self.name, self.log, self.kind = name, log, SERVERS[name]
        self._recycles = recycle is not None
        self._reserved = bind()  # held until the end, so that nobody else is given the port
        self.port: int = self._reserved.getsockname()[1]
        recycling = "" if recycle is None else self.kind.recycles.format(requests=recycle)
        self.site: apache.Site | None = None
        if self.kind.command is apache.COMMAND:
            self.site = apache.Site(app, path, log, self.port, self.kind.threads, recycling)
            command = self.site.command
        else:
            # uWSGI brings its own Python, which knows nothing of a virtual environment (--home would hide the system's
            # own modules from it where that Python is Debian's).
            packages = sysconfig.get_path("purelib")
            places = {"python": sys.executable, "bin": str(Path(sys.executable).parent), "packages": packages}
            words = [*self.kind.command.split(), *recycling.split()]
            command = [
                word.format(name=name, app=app, port=self.port, threads=threads or self.kind.threads, **places)
                for word in words
            ]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSGIDB_")}
        settings = {**inherited, "PYTHONPATH": os.pathsep.join(path), **environ}
        with log.open("ab") as out:
            # Should this process be killed, the kernel ends the server.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=settings, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Server:
        try:
            until(self._answers, 30, f"{self.name} to listen")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"{self.name} ended: {self.said}"
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """The pids of the processes that it has started itself."""
        text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    @property
    def asleep(self) -> bool:
        """Whether all its threads wait for something: a request, once nobody asks anything. Its clients cannot see
        what it still has to do behind a response's last byte.

        Nor can they see that a process is missing: uWSGI pauses where it would replace one "too fast", and asked to
        end in that pause it forgets the one that it starts after it, until its 60 seconds of mercy are over."""
        if self._recycles and len(self.workers) < self.kind.processes:
            return False
        return asleep(self._process.pid, *self.workers)

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end; it must do so, and well."""
        self._process.terminate()
        try:
            status = self._process.wait(20)
        finally:
            self.kill()
        assert status == 0, f"{self.name} ended with {status}: {self.said[-3000:]}"

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads a group, of its workers
        self._process.wait()
        self._reserved.close()
        if self.site is not None:
            self.site.remove()


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    _, _name, _app, _port = sys.argv
    signal.signal(signal.SIGTERM, _end)
    _module, _, _attribute = _app.partition(":")
    _run = SERVERS[_name].run
    assert _run is not None, f"{_name} has a command of its own"
    _run(getattr(import_module(_module), _attribute), int(_port))

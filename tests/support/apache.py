"""Apache with mod_wsgi: a ServerRoot of its own, for one application.

Debian's mod_wsgi embeds Debian's Python, whatever runs the tests, and Apache changes to a user who may not read the
tests' directories: so what the application needs is copied, all of it pure Python.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.datadir import hand_over, run_as

if TYPE_CHECKING:
    from support.servers import Server

COMMAND = "{apache} -d {directory} -f {directory}/httpd.conf -DFOREGROUND"
MODULES = Path("/usr/lib/apache2/modules")
PACKAGES = ("wsgidb", "pymysql")

SERVER = """
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
ServerName localhost
Listen 127.0.0.1:{port}
{user}
PidFile {directory}/pid
DefaultRuntimeDir {directory}
ErrorLog {log}
StartServers 1
MaxKeepAliveRequests 0
WSGISocketPrefix {directory}/socket
"""
APPLICATION = """
WSGIDaemonProcess app processes=1 threads={threads} python-path={directory} {recycling}
WSGIProcessGroup app
WSGIApplicationGroup %{{GLOBAL}}
WSGICallableObject {callable}
WSGIScriptAlias / {directory}/{script}
<Directory {directory}>
    Require all granted
</Directory>
"""


def find_apache() -> str:
    """The server program; without it a loud skip, and a failure in CI."""
    found = shutil.which("apache2", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found and (MODULES / "mod_wsgi.so").exists():
        return found
    message = "no Apache with mod_wsgi here (Debian: apt-get install libapache2-mod-wsgi-py3)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Site:
    """A directory with a configuration, the application and the packages it needs."""

    def __init__(self, app: str, path: list[str], log: Path, port: int, threads: int, recycling: str) -> None:
        module, _, name = app.partition(":")
        relative = Path(*module.split(".")).with_suffix(".py")
        source = next(place for place in path if (Path(place) / relative).exists())
        script = "script.py"
        application = APPLICATION.format(
            directory="{directory}", threads=threads, recycling=recycling, script=script, callable=name
        )
        self._make({script: (Path(source) / relative).read_text()}, application, log, port)
        self.script = self.directory / script

    def _make(self, files: dict[str, str], application: str, log: Path, port: int) -> None:
        """Write the files, and the configuration of the application, in which ``{directory}`` is that of the site."""
        program = find_apache()
        self.directory = Path(tempfile.mkdtemp(prefix="wsgidb-", dir="/tmp"))
        try:
            for name, text in files.items():
                (self.directory / name).write_text(text.replace("{directory}", str(self.directory)))
            for package in PACKAGES:
                spec = find_spec(package)
                assert spec is not None, f"{package} is not installed"
                assert spec.origin is not None, f"{package} has no place"
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(Path(spec.origin).parent, self.directory / package, ignore=ignored)
            text = SERVER.format(modules=MODULES, directory=self.directory, port=port, user=_user(), log=log)
            text += application.replace("{directory}", str(self.directory))
            (self.directory / "httpd.conf").write_text(text)
            hand_over(self.directory)
        except BaseException:
            self.remove()
            raise
        self.command = [word.format(apache=program, directory=self.directory) for word in COMMAND.split()]

    def remove(self) -> None:
        shutil.rmtree(self.directory)


class Shown(Site):
    """A site with the files and the configuration that a page shows."""

    def __init__(self, files: dict[str, str], application: str, log: Path, port: int) -> None:
        self._make(files, application, log, port)


def _user() -> str:
    """The directives that make Apache give up root's rights, where it has them."""
    name = run_as()
    if name is None:
        return ""
    return f"User {name}\nGroup {grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name}"


def touch(server: Server) -> None:
    """A newer script makes mod_wsgi replace the processes that have loaded it, with the next request."""
    assert server.site is not None
    os.utime(server.site.script)

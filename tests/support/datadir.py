"""A fresh MariaDB data directory in tens of milliseconds.

The server itself is the quickest installer: fed with its own system tables in bootstrap mode it
takes 0.2 s. ``mariadb-install-db`` does the same more slowly; it also needs a program of another Debian
package, and as root it changes the permissions of the machine's PAM helper. The result is packed once,
and unpacked for each server.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from filelock import FileLock

GUEST_SQL = """
FLUSH PRIVILEGES;
CREATE DATABASE test;
CREATE USER guest@'%';
GRANT ALL ON test.* TO guest@'%';
CREATE USER app@'%' IDENTIFIED BY 'p@ss/w%rd:x';
GRANT ALL ON test.* TO app@'%';
"""

# Small files are quick to copy. A commit is written to the operating system at once (2, not 0): it
# must survive SIGKILL, or tests could not tell a lost write from a lazy server.
FAST = (
    "--innodb-data-file-path=ibdata1:5M:autoextend",
    "--innodb-temp-data-file-path=ibtmp1:5M:autoextend",
    "--innodb-autoextend-increment=1",
    "--innodb-log-file-size=4M",
    "--innodb-log-buffer-size=2M",
    "--innodb-buffer-pool-size=8M",
    "--innodb-buffer-pool-dump-at-shutdown=0",
    "--innodb-buffer-pool-load-at-startup=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--aria-pagecache-buffer-size=1M",
    "--key-buffer-size=1M",
    "--performance-schema=0",
    "--skip-name-resolve",
    "--skip-log-bin",
)


def run_as() -> str | None:
    """The user the server changes to: it refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def hand_over(directory: Path) -> None:
    """Give *directory* and all in it to the server's user."""
    if user := run_as():
        for path in (directory, *directory.rglob("*")):
            shutil.chown(path, user)


def make_datadir(mariadbd: str, datadir: Path) -> None:
    """Fill the empty *datadir* with system tables, database ``test`` and users ``guest`` and ``app``.

    The packed copy is one file, put in place by a rename, so nobody ever reads half of it; the lock
    only spares other workers the work. It is redone each hour, in case the server behind the same
    version number was rebuilt.
    """
    script = bootstrap_script(mariadbd)
    version = subprocess.run([mariadbd, "--no-defaults", "--version"], capture_output=True, check=True).stdout
    key = hashlib.sha256(b"\0".join([version, script.encode(), repr(FAST).encode()])).hexdigest()[:16]
    cache = private_cache()
    packed = cache / f"datadir-{key}.zip"
    with FileLock(cache / f"datadir-{key}.lock", timeout=60):
        if not packed.exists() or time.time() - packed.stat().st_mtime > 3600:
            bootstrap(mariadbd, script, packed)
        shutil.unpack_archive(packed, datadir)
    hand_over(datadir)


def private_cache() -> Path:
    """A directory that all checkouts and workers of this user share, and nobody else can write."""
    cache = Path(tempfile.gettempdir()) / f"wsgidb-tests-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    found = cache.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RuntimeError(f"{cache} is not private to this user: remove it")
    return cache


def bootstrap_script(mariadbd: str) -> str:
    """The SQL of the system tables (named mysql_* up to MariaDB 10.11, mariadb_* later) and of our own users."""
    share = Path(mariadbd).resolve().parent.parent / "share"
    parts = ["CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket=NULL;"]
    for kind in ("system_tables", "performance_tables", "system_tables_data"):
        found = [path for name in ("mariadb", "mysql") for path in sorted((share / name).glob(f"m*_{kind}.sql"))]
        if not found:
            raise RuntimeError(f"no *_{kind}.sql under {share}/mariadb or {share}/mysql")
        lines = found[0].read_text().splitlines()
        # Accounts for this machine's name, which --skip-name-resolve would warn of at each start.
        parts += [line for line in lines if "@current_hostname" not in line]
    return "\n".join(parts) + GUEST_SQL


def bootstrap(mariadbd: str, script: str, packed: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="wsgidb-") as name:
        fresh = Path(name) / "data"
        fresh.mkdir()
        os.chmod(name, 0o711)
        hand_over(fresh)
        command = [mariadbd, "--no-defaults", "--bootstrap", f"--datadir={fresh}", f"--tmpdir={fresh}", *FAST]
        command.append("--max-allowed-packet=8M")
        if user := run_as():
            command.append(f"--user={user}")
        done = subprocess.run(command, input=script, text=True, capture_output=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"bootstrapping MariaDB failed:\n{done.stderr[-2000:]}")
        # Packed elsewhere, since the directory of the cache may be on another file system's end of a rename.
        half = shutil.make_archive(str(packed.with_suffix(f".{os.getpid()}")), "zip", fresh)
        os.replace(half, packed)

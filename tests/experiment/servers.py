"""A real PostgreSQL in a temporary folder, on a Unix socket, started, killed and started again by the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from nc_refiner.experiment.store import Store


def binary(name: str) -> str | None:
    """The program, on PATH or where Debian keeps it."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


def empty(url: str) -> None:
    """Drop all that a database holds, while others write to it; of two that wait for each other PostgreSQL ends one."""
    store = Store(url)
    try:
        for _ in range(50):
            try:
                with store.engine.begin() as connection:
                    connection.execute(text("DROP SCHEMA public CASCADE"))
                    connection.execute(text("CREATE SCHEMA public"))
                return
            except OperationalError as error:
                if "deadlock" not in str(error):
                    raise
        pytest.fail(f"{url} could not be emptied: a deadlock fifty times")
    finally:
        store.close()


class Postgres:
    """One server; its data lie in `folder`."""

    def __init__(self) -> None:
        if not (binary("initdb") and binary("pg_ctl") and binary("postgres")):
            pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
        # Not pytest's own folder, whose parents another user may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="ncpg", dir="/tmp"))
        self._as_user: list[str] = []
        if os.getuid() == 0:
            # PostgreSQL refuses to run as root.
            if shutil.which("setpriv") is None:
                pytest.skip("PostgreSQL does not run as root, and setpriv is not here")
            self._as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            os.chown(self.folder, 65534, 65534)
        self.data = self.folder / "data"
        self._run("initdb", "-D", str(self.data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.database = "postgres"

    @property
    def url(self) -> str:
        """Of the database that the test has."""
        return f"postgresql://tester@/{self.database}?host={self.folder}"

    def _run(self, name: str, *arguments: str) -> None:
        program = binary(name)
        assert program is not None
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(self.folder), "PGCTLTIMEOUT": "300"}
        # Not captured: the server inherits the handles, and a pipe would never end.
        with open(os.devnull, "r+b") as null, open(self.folder / f"{name}.out", "wb") as out:
            done = subprocess.run(
                [*self._as_user, program, *arguments], stdin=null, stdout=out, stderr=out, env=environment, cwd="/"
            )
        assert done.returncode == 0, (self.folder / f"{name}.out").read_text()

    def start(self) -> None:
        # It is killed, its machine never is: what was written outlives it without waiting for the disk, which can be
        # very slow where many share it.
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c max_connections=200 -c fsync=off"
        )
        log = str(self.folder / "server.log")
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", log, "-o", options, "start")

    def revive(self) -> None:
        """Start it where a test that failed has left it killed."""
        if not (self.data / "postmaster.pid").exists():
            self.start()

    def kill(self) -> None:
        """As if the power failed: no checkpoint, connections cut."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

"""Databases to record to, and arms of next to no cost."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from sqlalchemy import text

from nc_refiner.calibration import CalibrationTrace
from nc_refiner.clip import VideoClip
from nc_refiner.experiment.store import Store
from nc_refiner.refiner import RefinedClip

from .servers import Postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def _server():
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def postgres(_server):
    """A running PostgreSQL server with an empty database, which no test had before."""
    _server.revive()
    store = Store(_server.url)
    _server.database = f"test{next(_numbers)}"
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {_server.database}"))
    store.close()
    return _server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path, monkeypatch):
    """URL of an empty database, on every kind of server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ab.db'}"
    return request.getfixturevalue("postgres").url


@pytest.fixture
def clip() -> VideoClip:
    return VideoClip(torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(3)), prompt="a camel")


@pytest.fixture(autouse=True)
def _calm():
    """Thousands of failures on purpose need not be told one by one."""
    logger = logging.getLogger("nc_refiner.experiment.live.routing")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


class Cheap:
    """A refiner that costs nothing; `fails(call number)` tells which calls raise."""

    def __init__(self, loss: float = 0.5, fails=lambda call: False):
        self.loss, self.fails, self.calls, self.seeds = loss, fails, 0, []

    def __call__(self, clip, *, seed=None, on_step=None, **settings):
        self.calls += 1
        self.seeds.append(seed)
        if self.fails(self.calls):
            raise RuntimeError("out of luck")
        return RefinedClip(clip, CalibrationTrace((2 * self.loss, self.loss)), {"seed": seed, "loss": self.loss})

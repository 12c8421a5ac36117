"""Names → adapters."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from nc_refiner.adapters import registry
from nc_refiner.adapters.embedded import EmbeddedRefiner


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


def test_embedded_is_there_and_buildable():
    assert "embedded" in registry.available()
    assert isinstance(registry.create("embedded", device="cpu"), EmbeddedRefiner)
    assert registry.diagnose("embedded") == "ready"
    assert "default refiner" in registry.summary("embedded")


def test_unknown_name_lists_what_there_is():
    with pytest.raises(KeyError, match="did you mean 'embedded'"):
        registry.create("embeded")


def test_names_are_exact_and_taken_once():
    @registry.register("mine")
    class Mine(EmbeddedRefiner):
        pass

    assert isinstance(registry.create("mine", device="cpu"), Mine)
    with pytest.raises(ValueError, match="already registered"):
        registry.register("mine")(EmbeddedRefiner)
    with pytest.raises(ValueError, match="lower case"):
        registry.register("Mine")


def test_third_parties_come_by_entry_point(monkeypatch):
    point = EntryPoint("theirs", "nc_refiner.adapters.embedded:EmbeddedRefiner", registry.GROUP)
    gone = EntryPoint("gone", "not_installed_package:Adapter", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: (point, gone))
    assert {"theirs", "gone", "embedded"} <= set(registry.available())
    assert isinstance(registry.create("theirs", device="cpu"), EmbeddedRefiner)
    assert registry.diagnose("gone").startswith("not usable")
    assert registry.summary("gone").startswith("not usable")


def test_doctor_says_which_options_are_missing():
    @registry.register("needy")
    def build(path):
        raise AssertionError

    assert registry.diagnose("needy").startswith("needs options")

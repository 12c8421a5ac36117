"""The start of the program, before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys

import nc_refiner


def test_module_can_be_run():
    found = subprocess.run([sys.executable, "-m", "nc_refiner", "--help"], capture_output=True, text=True, check=True)
    assert "refine" in found.stdout and found.stderr == ""


def test_interrupt_while_loading_ends_in_words():
    code = (
        "import sys, nc_refiner.__main__ as start\n"
        "class Impatient:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Impatient()); start.run()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr == "nc-refiner: interrupted; nothing was written, the input is as it was\n"


def test_names_load_when_first_used():
    code = (
        "import sys, nc_refiner; assert 'torch' not in sys.modules; "
        "nc_refiner.NoiseCalibration; print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"
    assert set(nc_refiner.__all__) <= set(dir(nc_refiner))
    assert all(getattr(nc_refiner, name) is not None for name in nc_refiner.__all__)

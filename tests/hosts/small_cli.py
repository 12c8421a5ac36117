"""`nc-refiner` where ModelScope builds its models small: `python -m tests.hosts.small_cli cascade CONFIG.yaml`."""

from __future__ import annotations

from nc_refiner.cli.main import run

from .operators import declare_torchvision_operators
from .tiny_modelscope import tiny_models

if __name__ == "__main__":
    declare_torchvision_operators()
    with tiny_models():
        run()

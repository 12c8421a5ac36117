"""What a process frees stays with it: refining on the CPU asks the kernel for little, and gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from nc_refiner.cli.memory import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
import torch
torch.set_num_threads(1)
def work():
    for _ in range(20):
        torch.empty(16 * 2**20).fill_(1.0)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str, **more: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, **more})
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own settings")
def test_freed_memory_is_used_again():
    # 64 MiB, twenty times: each is cleared by the kernel, or none is. Huge pages make few faults of it.
    assert faults("keep") < 100 < faults()


def test_what_the_environment_says_is_left(monkeypatch):
    from nc_refiner.cli.memory import keep_freed_memory

    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()

"""Write `docs/diffusers_pipelines.md`: every SDEdit-style pipeline of the installed diffusers, and its state.

- `python tools/diffusers_table.py`: write it
- `python tools/diffusers_table.py --check`: exit code 1 if it is stale
"""

from __future__ import annotations

import argparse
import inspect
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from nc_refiner.adapters.diffusers.loading import require_diffusers  # noqa: E402
from nc_refiner.adapters.diffusers.support import noises_something, refusal  # noqa: E402
from nc_refiner.adapters.diffusers.tested import TESTED  # noqa: E402

DOCUMENT = ROOT / "docs" / "diffusers_pipelines.md"
HEAD = """# diffusers pipelines

Written by `python tools/diffusers_table.py` for diffusers {version}; a test fails when it is stale.

- **tested**: built small in the test suite and checked bit for bit: stock results without calibration, the in-loop
  engine against the replay engine, the scheduler's own estimate, exact cost.
- **auto**: nothing speaks against it and nothing is written for it; `mode="auto"` finds out at the first step where
  noise enters and refuses, before any real step, if it cannot calibrate.
- **refused**: with the reason.

| pipeline | state | notes |
|---|---|---|
"""


def _candidates() -> dict[str, type]:
    """Classes that noise an input, or take a video: whatever could be mistaken for an SDEdit refiner."""
    diffusers = require_diffusers()
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in dir(diffusers):
            if not name.endswith("Pipeline") or name.startswith(("Auto", "Flax")):
                continue
            cls = getattr(diffusers, name)
            if not (inspect.isclass(cls) and issubclass(cls, diffusers.DiffusionPipeline) and "__call__" in dir(cls)):
                continue
            if noises_something(cls):
                found[name] = cls
    return found


def render() -> str:
    """The document's text."""
    lines = []
    for name, cls in sorted(_candidates().items()):
        reason = refusal(cls)
        if name in TESTED:
            state, note = "tested", TESTED[name]
        elif reason is not None:
            state, note = "refused", reason
        else:
            state, note = "auto", ""
        lines.append(f"| {name} | {state} | {note} |")
    return HEAD.format(version=require_diffusers().__version__) + "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 1 where `--check` finds the document stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the document is stale")
    options = parser.parse_args(arguments)
    text = render()
    if options.check:
        fresh = DOCUMENT.is_file() and DOCUMENT.read_text(encoding="utf-8") == text
        sys.stderr.write("" if fresh else f"{DOCUMENT} is stale: run python tools/diffusers_table.py\n")
        return 0 if fresh else 1
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Tests of `tools/`. Its scripts import each other as top-level modules, so that folder joins the search path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

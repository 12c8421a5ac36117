"""The parts of `tools/benchmark.py`: each measures one promise and returns JSON-ready data."""

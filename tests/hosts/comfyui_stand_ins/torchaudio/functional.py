"""Names that ComfyUI imports and these tests never use: using one says so."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"torchaudio.functional.{name} is not there: torchaudio is stood in for")

    return missing

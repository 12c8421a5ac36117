"""Encoders remembered from pass to pass of a replay, so that they run once for the same input."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from ..runtime import only_here, replaced

__all__ = ["EncoderMemo"]


_MOST = 64
"""Answers kept per encoder: a clip's batches, or a few prompts."""


def _alike(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return (
            isinstance(a, Tensor)
            and isinstance(b, Tensor)
            and (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
            and torch.equal(a, b)
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, (str, int, float, bool, bytes, torch.dtype, torch.device)):
        return bool(a == b)
    return False


class EncoderMemo:
    """Remembers `pipe.encode_prompt` and the `encode` of the pipeline's models (its VAE), by call and by argument.

    Neither draws random numbers (a VAE's posterior is sampled outside `encode`), so skipping one changes no state.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[Any, Any]]] = {}

    @contextmanager
    def on(self, pipe: Any) -> Iterator[None]:
        """Inside the block the encoders of `pipe` answer from memory where they can; to this thread alone, for others
        may be using the same models.
        """
        with ExitStack() as stack:
            if hasattr(pipe, "encode_prompt"):
                remembered = self._remembering("encode_prompt", pipe.encode_prompt)
                stack.enter_context(replaced(pipe, "encode_prompt", remembered))
            for name, model in pipe.components.items():
                if isinstance(model, torch.nn.Module) and callable(getattr(model, "encode", None)):
                    encode: Callable[..., Any] = model.encode  # type: ignore[assignment]
                    stack.enter_context(replaced(model, "encode", self._remembering(f"{name}.encode", encode)))
            yield

    def forget_models(self) -> None:
        """Forget what models encoded, which belongs to one clip; prompts stay."""
        self._known = {name: known for name, known in self._known.items() if not name.endswith(".encode")}

    def _remembering(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        known = self._known.setdefault(name, [])

        @functools.wraps(function)
        def remembering(*args: Any, **kwargs: Any) -> Any:
            for asked, answer in known:
                if _alike(asked, (args, kwargs)):
                    return answer
            answer = function(*args, **kwargs)
            known.append(((args, kwargs), answer))
            del known[:-_MOST]
            return answer

        return only_here(remembering, function)

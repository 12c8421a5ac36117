"""Settings that hold on an object for the length of a block, each thread by its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["SCOPES", "in_scope", "scope_of"]

SCOPES = "_nc_refiner_scopes"
"""The attribute, on the object itself, that holds what its open blocks set; absent while none is open."""

_lock = threading.Lock()


@contextmanager
def in_scope(owner: Any, value: Any) -> Iterator[None]:
    """Inside the block `scope_of(owner)` is `value`; blocks may nest, and may end in any order."""
    entry = (threading.get_ident(), value)
    with _lock:
        vars(owner)[SCOPES] = (*vars(owner).get(SCOPES, ()), entry)
    try:
        yield
    finally:
        with _lock:
            left = tuple(one for one in vars(owner)[SCOPES] if one is not entry)
            if left:
                vars(owner)[SCOPES] = left
            else:
                del vars(owner)[SCOPES]


def scope_of(owner: Any) -> Any:
    """What the innermost block of this thread set on `owner`; else the latest of any thread; else None."""
    open_blocks = vars(owner).get(SCOPES, ()) if hasattr(owner, "__dict__") else ()
    mine = [value for thread, value in open_blocks if thread == threading.get_ident()]
    found = mine or [value for _, value in open_blocks]
    return found[-1] if found else None

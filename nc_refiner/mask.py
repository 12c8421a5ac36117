"""`Mask`: where content is strict, as weights on the latents' grid. Averages by area, in space and in time."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["FunctionMask", "Mask", "Place", "TensorMask", "as_mask", "latent_weights"]


@dataclass(frozen=True)
class Place:
    """Where latents lie in a clip.

    Attributes:
        latent: frames, height and width of the latents, each ≥ 1.
        frames: frames of the clip that these latents hold, padding left aside; None: as many as latent frames.
        first: absolute number of the first of them.
        size: height and width of those frames; None: the latents cover the mask exactly.
        repeated: frames that were added at the end by repeating the last.
        padded: height and width after rows and columns were added below and to the right; None: none were.
        factor: frames that every latent frame but the first stands for, where the first stands for one alone (causal
            video VAEs).
    """

    latent: tuple[int, int, int]
    frames: int | None = None
    first: int = 0
    repeated: int = 0
    size: tuple[int, int] | None = None
    padded: tuple[int, int] | None = None
    factor: int = 1

    @property
    def count(self) -> int:
        """Frames of the clip that the latents hold."""
        if self.frames is not None:
            return self.frames
        return 1 + (self.latent[0] - 1) * self.factor

    def over_time(self, frames: int) -> Tensor:
        """`(F', frames)` float64, rows that sum to 1: how much each of `frames` frames counts in a latent frame."""
        latent, filled = self.latent[0], frames + self.repeated
        if self.factor > 1 and latent == 1 + -(-(filled - 1) // self.factor):
            edges = torch.arange(latent + 1, dtype=torch.float64)
            edges[1:] = 1 + self.factor * edges[:-1]
        else:
            edges = torch.arange(latent + 1, dtype=torch.float64) * max(1.0, filled / latent)
        return _shares(edges, frames)

    def over_space(self, axis: int, pixels: int) -> Tensor:
        """`(cells, pixels)` float64, rows that sum to 1, for a mask of `pixels` rows (axis 0) or columns (1)."""
        cells = self.latent[1 + axis]
        reach = 1.0
        if self.size is not None and self.padded is not None:
            reach = self.padded[axis] / self.size[axis]
        return _shares(torch.arange(cells + 1, dtype=torch.float64) * (reach * pixels / cells), pixels)


def _shares(edges: Tensor, count: int) -> Tensor:
    """How much each of `count` unit intervals, the last without end, covers of the cells between `edges`."""
    lower = torch.arange(count, dtype=torch.float64)
    upper = lower + 1
    upper[-1] = float("inf")
    shared = torch.minimum(edges[1:, None], upper) - torch.maximum(edges[:-1, None], lower)
    return shared.clamp_min(0) / (edges[1:] - edges[:-1])[:, None]


class Mask(ABC):
    """Values in [0, 1] over a clip: 1 where its content is strict, 0 where the refiner is free.

    Masks are equal where their descriptions are; they never change.

    Attributes:
        name: for people.
        needs_frames: whether `values` must be given the frames of the clip.
        length: its number of frames; None where it has as many as the clip.
    """

    name: str = "mask"
    needs_frames: bool = False
    length: int | None = None

    @abstractmethod
    def values(self, first: int, count: int, frames: Tensor | None) -> Tensor:
        """The mask `(1 or count, H, W)` of any size, for `count` frames of the clip from number `first` on; `frames`
        are these, `(count, 3, H, W)` in [0, 1].
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What identifies the mask, as JSON takes it; for receipts."""

    def weights(self, place: Place, frames: Tensor | None = None) -> Tensor:
        """The mask on the latents' grid, `(1, 1, F', H', W')` float32 in [0, 1] on the CPU.

        Args:
            place: where the latents lie.
            frames: the clip's frames they hold, for masks that look at them.

        Raises:
            ValueError: values out of range, another number of frames than the clip's, or frames are needed.
        """
        if self.needs_frames and frames is None:
            raise ValueError(
                f"{self.name} looks at the frames, which this host does not show; give a picture or a clip"
            )
        self.check_length(place.first + place.count)
        found = checked(self.values(place.first, place.count, frames), self.name)
        if len(found) not in (1, place.count):
            raise ValueError(f"{self.name} has {len(found)} frames for {place.count} of the clip; give 1 or as many")
        rows, columns = (place.over_space(axis, found.shape[1 + axis]) for axis in (0, 1))
        # Frame by frame, for a clip in float64 is large.
        small = torch.stack([(rows @ frame.double() @ columns.T) for frame in found])
        if len(found) > 1:
            small = torch.einsum("tf,fhw->thw", place.over_time(len(small)), small)
        return small.clamp(0, 1).float().expand(place.latent)[None, None].contiguous()

    def check_length(self, frames: int) -> None:
        """Raise ValueError where the mask has too few frames for a clip of `frames`; it may have one, or more."""
        if self.length is not None and self.length != 1 and self.length < frames:
            raise ValueError(f"{self.name} has {self.length} frames for {frames} of the clip; give 1 or as many")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash(repr(sorted(self.describe().items())))

    def __deepcopy__(self, memo: Any) -> Mask:
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.describe().items())})"


def checked(values: Any, name: str) -> Tensor:
    """`values` as `(F, H, W)` float: a picture `(H, W)`, or a clip `(F, H, W)` or `(F, 1, H, W)`.

    Raises:
        ValueError: another shape or kind, nothing in it, or values outside [0, 1].
    """
    try:
        found = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is a {type(values).__name__}; it must be a tensor or an array") from None
    if found.ndim == 4 and found.shape[1] == 1:
        found = found[:, 0]
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.numel() == 0:
        raise ValueError(f"{name} is {tuple(found.shape)}; it must be (H, W), (F, H, W) or (F, 1, H, W)")
    if found.is_complex():
        raise ValueError(f"{name} is complex; it must hold numbers from 0 to 1")
    found = found if found.is_floating_point() else found.float()
    low, high = float(found.min()), float(found.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} has values from {low:g} to {high:g}; they must lie in [0, 1]")
    return found


class TensorMask(Mask):
    """A mask in memory: `(H, W)`, `(F, H, W)` or `(F, 1, H, W)`, floats in [0, 1] or truth values; errors as `checked`.

    >>> half = TensorMask(torch.tensor([[1.0, 0.0]]))
    >>> half.weights(Place((1, 1, 4)))[0, 0, 0].tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    >>> half.weights(Place((1, 1, 1))).item()
    0.5
    """

    def __init__(self, values: Any):
        self._values = checked(values, "the mask").clone()
        kind = self._values.float().contiguous()
        self._digest = hashlib.sha256(kind.numpy().tobytes() + repr(tuple(kind.shape)).encode()).hexdigest()
        self.name, self.length = "the mask", len(self._values)

    def values(self, first: int, count: int, frames: Tensor | None) -> Tensor:
        return self._values if self.length == 1 else self._values[first : first + count]

    def describe(self) -> dict[str, Any]:
        return {"sha256": self._digest, "shape": list(self._values.shape)}


class FunctionMask(Mask):
    """A mask that a function finds in frames `(F, 3, H, W)` in [0, 1]: `(H, W)`, `(F, H, W)` or `(F, 1, H, W)`.

    Long clips are shown to it window by window. Equal to another of the same function and name.
    """

    needs_frames = True

    def __init__(self, function: Callable[[Tensor], Any], name: str | None = None):
        self._function, self._named = function, name
        self.name = f"the mask {name}" if name else f"the mask {getattr(function, '__name__', 'function')}"

    def values(self, first: int, count: int, frames: Tensor | None) -> Tensor:
        return checked(self._function(cast(Tensor, frames)), self.name)

    def describe(self) -> dict[str, Any]:
        function = self._function
        where = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
        return {"name": self._named} if self._named else {"function": where}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionMask) and (self._function, self._named) == (other._function, other._named)

    def __hash__(self) -> int:
        return hash((self._function, self._named))


def latent_weights(mask: Mask | None, latents: Tensor) -> Tensor | None:
    """The weights of `mask` where nothing but latents `(B, C, F, H, W)` is known, which it then covers exactly; None
    where there is no mask. Errors as `Mask.weights`."""
    if mask is None:
        return None
    return mask.weights(Place((int(latents.shape[2]), int(latents.shape[3]), int(latents.shape[4])))).to(latents.device)


def as_mask(value: Any) -> Mask:
    """Anything that says where content is strict: a `Mask`, a path, a ready mask by name (`text`, `faces`), a tensor or
    array, a Pillow picture, or a function of the frames.

    Raises:
        ValueError: a shape, values or a file that cannot be used.
    """
    if isinstance(value, Mask):
        return value
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        # By name, so that the core needs no reader of files.
        return cast(Mask, import_module(".masks", __package__).open_mask(value))
    if hasattr(value, "convert") and hasattr(value, "tobytes"):
        picture = value.convert("L")
        grey = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return TensorMask(grey.view(picture.height, picture.width).float() / 255)
    if callable(value) and not isinstance(value, Tensor):
        return FunctionMask(value)
    return TensorMask(value)

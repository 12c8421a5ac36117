"""The one look of all pages: a stylesheet, parts, pictures of numbers, and players, as one file that loads nothing."""

from .embedded import Embedded
from .forest import Row, forest_row
from .page import look, render

__all__ = ["Embedded", "Row", "forest_row", "look", "render"]

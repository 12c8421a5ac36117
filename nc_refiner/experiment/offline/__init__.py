"""Comparisons on files: arms × clips × seeds, stored cell by cell, resumed where they stopped."""

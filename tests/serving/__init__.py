"""Tests of `nc-refiner serve`."""

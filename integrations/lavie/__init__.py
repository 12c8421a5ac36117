"""LaVie: a refiner stage between its interpolation and its super-resolution."""

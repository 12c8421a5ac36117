"""VGen (I2VGen-XL and its kin): a refiner in the place of, or before, its SR600 stage."""

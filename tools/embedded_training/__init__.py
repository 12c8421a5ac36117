"""How the embedded refiner is made: sources → crops → training loop → evaluation and model card."""

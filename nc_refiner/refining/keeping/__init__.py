"""A target instead of settings: the strongest refinement whose output still holds it."""

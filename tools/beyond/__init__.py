"""What goes beyond the paper, measured: variants of calibration, and targets."""

"""Show-1: its last stage, calibrated."""

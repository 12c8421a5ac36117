"""What a host loads: scripts and blocks for stacks people run already. They import nc_refiner, never the reverse."""

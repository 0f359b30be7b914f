"""How many runs are trained: on this machine, on a Ray cluster, under torchrun."""

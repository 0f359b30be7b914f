"""The paper's mechanism and the networks that host it."""

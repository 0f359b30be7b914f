"""What was measured: records of runs and other sealed facts. No torch."""

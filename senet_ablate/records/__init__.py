"""What was measured: records of runs and other sealed facts, shared by training and analysis.

No torch.
"""

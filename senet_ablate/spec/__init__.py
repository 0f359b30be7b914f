"""What is asked: registered names, specifications, recipes, experiments, claims, plans, the paper.

No torch.
"""

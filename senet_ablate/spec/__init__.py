"""What is asked, without torch: parts by name, recipes, experiments, claims, plans, the paper."""

"""Verdicts to pages, plots and notebook sections, and whether these are up to date. No torch."""

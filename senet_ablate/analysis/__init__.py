"""From records to verdicts: statistics, exclusions, checks, tables, comparisons. No torch."""

"""The kinds of claim: each class owns the fields of a check and what it makes of the evidence."""

"""The command line: its verbs, and nothing that a Python user would miss."""

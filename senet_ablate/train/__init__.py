"""From a specification to a record: the training loop and all that runs it."""

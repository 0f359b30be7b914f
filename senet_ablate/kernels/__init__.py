"""Fast ways through the operations that networks spend their time in; the networks mean the same without them."""

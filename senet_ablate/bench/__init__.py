"""How fast is it? Each module times something and returns facts, which a page shows."""

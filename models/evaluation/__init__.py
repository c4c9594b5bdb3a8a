"""How good a model is, with the uncertainty that belongs to each figure."""

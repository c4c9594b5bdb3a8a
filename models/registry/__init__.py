"""Model artifacts and the registry that keeps them: what was published never changes."""

"""How a graph is scored: one protocol, and the plan that fits every graph."""

"""How good a network or an engine is, and pictures of it."""

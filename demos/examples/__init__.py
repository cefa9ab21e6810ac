"""Programs to begin with, as somebody else would write them."""

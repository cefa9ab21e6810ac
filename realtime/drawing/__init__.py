"""What is found, drawn on pictures."""

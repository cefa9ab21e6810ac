"""Scenes to practise on, and examples to begin with."""

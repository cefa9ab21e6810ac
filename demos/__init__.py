"""Scenes: drawn things that sound, and runnable examples."""

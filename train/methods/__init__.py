"""How networks learn where a sound comes from."""

"""How networks learn where a sound comes from: a method is a file, see `method.Method`."""

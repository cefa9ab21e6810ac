"""What moves with the sound, without a network."""

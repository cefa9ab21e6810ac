"""The loop: sources, pairing, localizing, drawing, sinks."""

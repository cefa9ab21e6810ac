"""What gives pictures and sound on one clock."""

"""Where pictures and what is found in them go."""

"""The film of `avsl-live --demo`, and what it was composed of."""

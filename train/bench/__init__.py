"""Methods, their controls and ablations, compared under the same rules."""

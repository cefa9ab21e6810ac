"""Training: objectives, data, evaluation, export."""

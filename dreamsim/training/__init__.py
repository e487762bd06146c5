"""Training: dreamed and real episodes, a trainer, and its weights back to the engines."""

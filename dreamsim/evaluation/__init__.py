"""How good models are, measured on real episodes that nobody learned from."""

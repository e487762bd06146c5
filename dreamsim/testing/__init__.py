"""Public test doubles, contract checks and Hypothesis strategies."""

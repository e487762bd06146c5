"""Real environments behind the `Environment` protocol, one module per environment."""

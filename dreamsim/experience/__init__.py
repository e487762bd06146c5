"""The experience model: prompt, parser, model and the environment made of them."""

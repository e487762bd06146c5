"""dreamsim: train LLM agents in episodes that an experience model dreams, grounded in real ones."""

__version__ = "0.1.0"

"""The durable store of episodes and the index over their steps."""

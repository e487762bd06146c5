"""The stations an episode passes: source, rollout, collector."""

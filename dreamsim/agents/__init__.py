"""Policies: who decides the next action."""

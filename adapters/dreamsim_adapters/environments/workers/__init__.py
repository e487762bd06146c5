"""Blocking environments in processes of their own: what passes between them and the event loop, who restarts them."""

"""Trainers: they consume stored or streamed episodes and write checkpoints; the core never imports them."""

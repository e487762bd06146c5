"""Frozen records that travel between the parts; no behaviour beyond their own invariants."""

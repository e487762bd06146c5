"""Connections to real environments and to other frameworks; the core never imports them."""

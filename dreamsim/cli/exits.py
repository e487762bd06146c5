"""Exit codes of all commands."""

from typing import Final

DONE: Final = 0
"""Everything that was asked for is done."""
FAILED: Final = 1
"""Something is missing, or too much failed."""
USAGE: Final = 2
"""Something given cannot be used; nothing was begun."""
INTERRUPTED: Final = 130
"""Stopped by Ctrl-C or SIGTERM, as shells count it (128 + SIGINT)."""

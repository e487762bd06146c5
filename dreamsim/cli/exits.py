"""How all commands end.

In: an exit code. Out: the end of the process. Always: nothing that the user asked for is cut off.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Final, NoReturn

DONE: Final = 0
"""Everything that was asked for is done."""
FAILED: Final = 1
"""Something is missing, or too much failed."""
USAGE: Final = 2
"""Something given cannot be used; nothing was begun."""
INTERRUPTED: Final = 130
"""Stopped by Ctrl-C or SIGTERM, as shells count it (128 + SIGINT)."""


def leave(code: int) -> NoReturn:
    """End the process with `code`, without waiting for what has nothing left to say.

    An encoder's call that was given up may go on in its thread for seconds, and Python takes torch and vLLM apart for
    seconds more; the user's terminal would wait for both. Everything that has to be written is written by then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    busy = [thread for thread in threading.enumerate() if not thread.daemon]
    if len(busy) > 1 or "torch" in sys.modules:
        os._exit(code)
    sys.exit(code)

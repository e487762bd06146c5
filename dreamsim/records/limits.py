"""How much of anything is read from outside: files, model servers, stores.

In: nothing. Out: bounds. Always: far above what honest data needs and far below what would fill the memory; what
exceeds one is refused with an error that names it, never cut short in silence. docs/security.md lists them; a test
compares.
"""

from __future__ import annotations

from typing import Final

LINE_BYTES: Final = 64 * 2**20
"""One line of JSONL, after decompression; an episode of 50 steps has some 100 kB."""
JSON_VALUES: Final = 2**21
"""Commas and opening brackets of one JSON document: what it costs in Python objects, some 100 bytes each."""
JSON_DEPTH: Final = 64
"""Lists and objects inside each other; an episode has 6."""
STEPS: Final = 10_000
"""Steps of an episode."""
TEXT_CHARACTERS: Final = 1_000_000
"""One text: an instruction, an action, a line of a state, a thought."""
LIST_ITEMS: Final = 100_000
"""Texts in one list: lines of a state, admissible actions."""
FREE_FIELDS: Final = 1_000
"""Fields of an object whose names are the writer's: a task's parameters, scores."""
ARRAY_ITEMS: Final = 4 * 2**20
"""Numbers of one array: tokens of a prompt, log-probabilities."""
EXPANSION: Final = 1_000
"""Bytes that a byte of a compressed file may become; episodes compress to a twentieth to a fiftieth."""
EXPANSION_FREE_BYTES: Final = 256 * 2**20
"""What a compressed file of any size may become."""
XZ_MEMORY_BYTES: Final = 256 * 2**20
"""What an .xz file may ask for to be read; `xz -9` makes files that need 65 MiB."""
SMALL_FILE_BYTES: Final = 2**20
"""A file that a person writes: settings, rules, a gate's calibration."""
ANSWER_BYTES: Final = 16 * 2**20
"""One answer of a model server, after decompression; 128k tokens with log-probabilities have some 8 MB."""
EMBEDDINGS_BYTES: Final = 64 * 2**20
"""One answer of an embedding server: 128 vectors."""
ANSWER_CHARACTERS_PER_TOKEN: Final = 256
"""Characters of an answer in text for each token that was asked for; the longest tokens are runs of 128 spaces."""
STORE_VALUE_BYTES: Final = 256 * 2**20
"""One value of a row of a store."""

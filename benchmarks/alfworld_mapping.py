"""How many tokens the state mapping saves on ALFWorld: its texts, against the lines that states are made of.

    python -m benchmarks.alfworld_mapping episodes.jsonl.xz --output benchmarks/results/alfworld-state-mapping.json
    python -m benchmarks.alfworld_mapping episodes.jsonl.xz --tokenizer path/to/tokenizer.json --tokenizer-name GPT-2

In: logged episodes as `examples/convert_alfworld_expert.py` reads them. Out: JSON, for each counting of tokens the mean
per step, with its 95 % interval over episodes (bootstrap), of
- `raw`: the transcript so far, from which alone the state can be known: the texts say only what an action gave;
- `feedback`: what the action gave;
- `state`: all lines of the mapped state;
- `changes`: only the lines that changed, the form in which histories and dreamed states are written.

ALFWorld's feedback is short already. What the mapping saves is the transcript: a state is complete without it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.state_mapping import FORMS, Count, Texts, per_step, tokenizer, words
from dreamsim.records.state import StateMemory, changes
from dreamsim.store.jsonl import read_records
from dreamsim_adapters.environments.alfworld.games import PACKAGE_VERSION
from dreamsim_adapters.environments.alfworld.mapping import Notes, transcript


def texts_of(record: dict[str, Any]) -> Texts:
    """What one logged episode says, in every form."""
    texts: Texts = {form: [] for form in FORMS}
    notes, steps = Notes(record["reset"]), []
    memory = StateMemory(notes.state)
    for step in record["steps"]:
        notes.see(step["action"], step["observation"])
        steps.append((step["action"], step["observation"]))
        state = notes.state
        texts["raw"].append(transcript(record["reset"], steps))
        texts["feedback"].append(step["observation"])
        texts["state"].append(state.text)
        texts["changes"].append("\n".join(changes(memory, state)))
        memory.see(state)
    return texts


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="How many tokens the state mapping saves on ALFWorld.")
    parser.add_argument("episodes", type=Path, help="logged episodes (.jsonl, .jsonl.xz)")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json to count with as well")
    parser.add_argument("--tokenizer-name", default="bpe", help="what to call it")
    parser.add_argument("--output", type=Path, help="the file to write; default: standard output")
    options = parser.parse_args()
    episodes = [texts_of(record) for record in read_records(options.episodes) if record["steps"]]
    counters: dict[str, Count] = {"words": words}
    if options.tokenizer is not None:
        counters[options.tokenizer_name] = tokenizer(options.tokenizer)
    result = {
        "command": "python -m benchmarks.alfworld_mapping " + " ".join(Path(part).name for part in sys.argv[1:]),
        "environment": f"alfworld {PACKAGE_VERSION}, handcoded expert",
        "episodes": len(episodes),
        "steps": sum(len(episode["raw"]) for episode in episodes),
        "tokens_per_step": {
            name: {form: per_step(episodes, form, count) for form in FORMS} for name, count in counters.items()
        },
    }
    text = json.dumps(result, indent=2) + "\n"
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_text(text)


if __name__ == "__main__":
    main()

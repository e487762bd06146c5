"""`dreamsim train-policy`: clone a policy from successful episodes.

In: JSONL files of episodes. Out: a checkpoint directory that `--policy.model` takes.
Always: as `dreamsim train-experience-model`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dreamsim.cli.arguments import Parser
from dreamsim.cli.train_experience_model import (
    add_training_arguments,
    episodes_of,
    run_command,
    train_settings,
    training_packages,
)


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit code."""
    parser = Parser(
        prog="dreamsim train-policy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_training_arguments(parser)
    parser.add_argument("--window", type=int, help="past steps shown; default: all, as one growing sequence")
    parser.add_argument(
        "--begin-action",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the prompt ends with the action tag, so that nothing but the action is written",
    )
    parser.add_argument("--show-admissible", action="store_true", help="list the possible actions (with --window)")
    parser.add_argument("--failures", action="store_true", help="imitate episodes that did not succeed, too")
    parser.add_argument("--decision-tokens", type=int, default=24, help="most tokens of a decision when asked")
    parser.add_argument("--tokenizer", help="directory of a tokenizer for a tiny model; default: made from the data")
    parser.add_argument("--shape", default="", help="of a tiny model: width,layers,heads,MLP width")
    parser.add_argument("--variants", type=int, default=1, help="how often each episode is laid out (default 1)")
    parser.add_argument(
        "--rename-share", type=float, default=0.0, help="share of these whose things are renamed (default 0)"
    )
    parser.add_argument("--rename-keep", default="", help="names never renamed, separated by commas")
    given = parser.parse_args(list(arguments))
    episodes = episodes_of(given.data)
    with training_packages():
        from dreamsim.agents.language_model import PolicySettings
        from dreamsim_trainers.causal_lm import TinyShape
        from dreamsim_trainers.policy import PolicyTraining, train_policy

        wanted = PolicyTraining(
            model=given.model,
            tokenizer=given.tokenizer,
            shape=TinyShape.parse(given.shape) if given.shape else TinyShape(),
            settings=PolicySettings(
                window=given.window,
                show_admissible=given.show_admissible,
                begin_action=given.begin_action,
                max_tokens=given.decision_tokens,
            ),
            successes_only=not given.failures,
            variants=given.variants,
            rename_share=given.rename_share,
            rename_keep=tuple(name for name in given.rename_keep.split(",") if name),
            max_tokens=given.max_tokens,
            train=train_settings(given, "train-policy", arguments),
        )
        output = train_policy(episodes, wanted)
    print(f"policy written to {output}: {run_command('policy', given)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

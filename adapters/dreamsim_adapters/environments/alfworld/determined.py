"""Which next states follow from what an ALFWorld episode has shown so far, and which only the game can know.

In: an episode. Out: for each step, whether the history decides the next state.
Always: it looks at states and actions alone, never at how well anybody foretold them. What fits where, and what can be
cleaned, heated or switched on, are rules of the games and count as known. Not decided are
- what lies in or on a place that was not looked into, and whether a place never visited is closed;
- that two places can be reached from one spot, unless that was shown: it makes going to the other one fail, and using
  it work;
- reading what was not read before, but for the agent's own hands and what was done to a thing;
- things that turn up where no state has shown them.
"""

from __future__ import annotations

from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import RESULT, SCENE, State
from dreamsim_adapters.environments.alfworld.actions import Action, parse_action
from dreamsim_adapters.environments.alfworld.mapping import CONDITIONS, FAILED, NOTHING_SPECIAL, ROOM
from dreamsim_adapters.environments.alfworld.seen import Seen


def determined(episode: Episode) -> list[bool]:
    """For each step, whether what came before it decides the state after it."""
    seen = Seen(episode.task)
    decided: list[bool] = []
    before = episode.task.first_state
    for transition in episode.transitions:
        decided.append(_decided(seen, before, transition))
        seen.see(before, transition)
        before = transition.state
    return decided


def _decided(seen: Seen, before: State, transition: Transition) -> bool:
    action, after = parse_action(transition.action), transition.state
    at, result = before.scene or ROOM, after.elements.get(RESULT, "")
    near = action.place == at or seen.together(at, action.place)
    if result == FAILED:
        hidden_neighbour = action.verb == "go" and seen.exists(action.place) and not near
        return not hidden_neighbour
    if result:
        return _foreseeable(before, action, result) or (at, transition.action, result) in seen.read
    if action.verb == "go":
        return _shows_nothing_new(seen, after, after.scene or "")
    if action.place and not near:
        return False
    old, new = before.elements, after.elements
    if any(" " in name and name not in old and value not in ("open", "closed") for name, value in new.items()):
        # Something turned up: the place it is in must have been looked into before.
        turned_up = {value.removeprefix("in ") for name, value in new.items() if name not in old and name != SCENE}
        places = {" ".join(value.split()[:2]) for value in turned_up}
        return all(place in seen.listed for place in places)
    if action.verb == "open":
        return action.place in seen.listed
    return action.verb != "examine" or action.thing in old or action.thing == at


def _shows_nothing_new(seen: Seen, after: State, place: str) -> bool:
    if after.elements.get(place) == "closed":
        return place in seen.visited
    return place in seen.listed


def _foreseeable(before: State, action: Action, result: str) -> bool:
    """Whether a result follows from what is known of the agent's own doings."""
    if action.verb in ("inventory", "help") or before.scene == ROOM:
        return True
    known = [word for word in before.elements.get(action.thing, "").split() if word in CONDITIONS]
    if result == NOTHING_SPECIAL:
        return not known
    return bool(known) and sorted(result.split()) == sorted(known)

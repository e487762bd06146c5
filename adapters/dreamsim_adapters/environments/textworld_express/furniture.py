"""What the things of TextWorldExpress are good for: what can be put on, what stays where it is, what cooks.

In: nothing. Out: names, as the state mapping writes them.
Always: a name that is in none of these sets is undecided, never taken to be one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

FLAT: Final = frozenset(
    {
        *("TV stand", "arm chair", "bath tub", "bed", "bench", "book case", "clothes line", "coat hanger"),
        *("coffee table", "counter", "desk", "desk chair", "dining chair", "dining table", "dressing table"),
        *("end table", "folding chair", "garden", "hat rack", "key holder", "laundry basket", "night stand"),
        *("patio chair", "patio table", "shelf", "showcase", "shower", "side table", "sink", "sofa"),
        *("toilet roll holder", "towel rack", "umbrella stand", "wall hook", "work table", "workbench"),
    }
)
"""Furniture that things can always be put on."""
BOX: Final = "box"
"""Stands open, in the games that have one."""
NOT_FLAT: Final = frozenset({"oven", "stove", "barbeque", "bath mat", "toilet"})
"""Furniture that nothing can be put on."""
FIXED: Final = FLAT | NOT_FLAT | {BOX, "instructions book"}
"""What cannot be taken; nor can whatever can be opened."""
OPENABLE: Final = frozenset(
    {
        *("bathroom cabinet", "chest of drawers", "clothes drier", "cutlery drawer", "dishwasher", "fridge"),
        *("kitchen cupboard", "shoe cabinet", "trash can", "wardrobe", "washing machine", "wastepaper basket"),
    }
)
"""Containers that are open or closed."""
COOKED_BY: Final[Mapping[str, str]] = MappingProxyType(
    {"oven": "roasted", "stove": "fried", "toaster": "grilled", "barbeque": "grilled"}
)
"""Appliance -> what cooking in it makes of food."""
CUT_BY: Final[Mapping[str, str]] = MappingProxyType({"slice": "sliced", "dice": "diced", "chop": "chopped"})
"""Verb -> what cutting so makes of food."""
STEP_MAKES: Final[Mapping[str, str]] = MappingProxyType(
    {**CUT_BY, "roast": "roasted", "fry": "fried", "grill": "grilled"}
)
"""Verb of a recipe -> what food is after it."""
COOKED: Final = frozenset({"roasted", "fried", "grilled", "burned"})
CUT: Final = frozenset(CUT_BY.values())
NO_FOOD: Final = frozenset({"knife", "cookbook"})
READABLE: Final = frozenset({"cookbook", "map", "math problem", "instructions book"})
"""What can be read: map and math problem in the hand, the others wherever they are seen."""

"""Renames the things of an episode, the same way throughout, so that memorizing names cannot pay.

In: an episode and the names in it that may change. Out: the episode with other names.
Always: one name becomes one other name everywhere in the episode, and no two become the same. Most names are made of
ordinary English words that no training episode mentions: a small model then has to copy what it reads instead of what
it remembers, and knows the embeddings of words that it will meet only in use. Some hold a word that does not exist,
so that words are also copied letter by letter; some share a word with another name, so that half a name is no name.

Where things have numbers (`mug 2`), kinds are renamed (`mug`), each to one word, and numbers can be shuffled within
their kind: what lies in which drawer is then another thing each time a game is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import numpy as np

from dreamsim.records.episode import Episode
from dreamsim.records.state import State, is_held

QUALITIES = """
amber beige big black blue bright broken brown checkered cheap clean cold cracked curly dark deep dirty dry dull dusty
empty faded fancy fine flat fluffy fresh frozen full glossy golden gray green hairy hawaiian heavy high hot huge
indigo ivory large lavender leather light lilac little long loose magenta maroon mellow metal modern narrow navy new
old olive orange pale patterned pink plaid plain plastic polished pretty purple rare red ripe rotten rough round
rusty scarlet sharp shiny short silver slim small smooth soft sour spare spotted square steel sticky striped strong
sweet tall tan teal thick thin tiny torn turquoise used velvet violet warm wet white wide wild wooden woolen yellow
sleeveless
""".split()

THINGS = """
almond anchor ankle apple apricot apron artichoke ashtray asparagus avocado axe backpack bacon badge bag ball balloon
banana bandage basil basin basket bat battery bead bean beef beer beet bell belt berry beret bikini binder blanket
blazer blender blouse board boat book boots bottle bowl box bra bracelet branch bread brick briefcase broccoli broom
brush bucket bun butter button cabbage cable cake calculator camera can candle cap car card cardigan carpet carrot
case cashew cauliflower celery cereal chain chalk charger cheese cherry chess chicken chili chips chisel chive
chocolate cigar cinnamon clam cleaver clip clock cloth coat coconut coffee colander collar comb compass conditioner
cookie coral cord corkscrew corn cotton cracker cream crayon cream crown cucumber cufflinks cumin cup curtain cushion
cutter cymbal date detergent dice dictionary dill doll dough dress dresses drill drum duck dumpling duvet earphones
earrings egg eggplant envelope eraser fabric face fan feather fennel fern fig file film fish flag flashlight floss
flour flower flute foil folder fork frame fruit frying funnel garlic gel ginger glass glasses globe gloves glue
goggles grape grapefruit grater guitar gum gym hair halibut ham hammer handbag handkerchief handle hat headband
headphones heels helmet hiking hoe honey hoodie hook horn hose ice ink iron jacket jam jar jeans jersey jewel jigsaw
juice jumper kale kettle key keyboard kite kitten knickers knob lace ladder ladle lamb lamp lantern leash leek
leggings lemon lens letter lettuce lid lighter lime linen lip lipstick liver lobster lock log loofah lotion magazine
magnet mango map marble marker mask mat match mattress mesh melon milk mint mirror mittens moccasins monitor mop mouse
muffin mug mushroom mussel mustard nail napkin necklace needle net newspaper notebook notepad nut oat oil ointment
olives onion oregano orchid ornament oven oyster pack paint painting pajamas pan pancake pants paper paprika parsnip
passport pasta paste pea peach peanut pear pearl pebble peeler pen pencil pepper perfume phone piano pickle pie pillow
pin pineapple pipe pita pizza plant plate pliers plug plum pocket polish polo pork portrait poster pot potato powder
prawn pressure pullover pump pumpkin purse puzzle quilt racket radio radish raisin rake razor record remote ribbon
rice ring robe rock roller rolling rope rosemary rug ruler saffron sage salad salmon salt sandals sandpaper sauce
sausage saw scale scanner scarf scissors screen screw seed sesame shampoo shawl shears sheet shell shirt shoes shorts
shovel shrimp sieve skirt sleeve slicer slippers sneakers soap socks soda soup spatula spice spinach spinner sponge
spoon spray spring squash stamp stapler steak stick sticker stone strainer strap straw string suit sugar sunglasses
suitcase sunscreen sweater switch swimsuit sword syrup table tablecloth tablet tape tea teapot tent thermometer
thimble thread thyme ticket tie tights tile tin tissue toast tofu tongs toolbox tooth toothbrush toothpaste top torch
towel toy tray trench trousers trumpet tube tuna turkey turmeric turnip tweezers umbrella underpants uniform vacuum
vanilla vase vest vinegar violin wafer waffle wallet walnut watch water watermelon wax whisk whistle wig wine wing
wire wok wool wrap wrench yarn yeast yogurt zipper zucchini roasting pie plate opener cleanser mascara eyeliner brass
cream golf court platform running climbing tennis business
""".split()

WORDS = tuple(sorted({*QUALITIES, *THINGS}))


NONSENSE_SHARE = 0.15
"""Of the names: one of their words does not exist."""
SHARED_SHARE = 0.3
"""Of the names, where there are others to share with: one of their words is also in another name."""
_ONSETS = "b bl br c ch cl d dr f fl g gl gr h j k l m n p ph pl q r s sh sl st t tr v w z".split()
_NUCLEI = "a e i o u ai ea ee ia oa oo ou".split()
_CODAS = ("", "", "", "b", "ck", "d", "g", "l", "ll", "m", "n", "p", "r", "ss", "st", "t", "x")


def nonsense_word(generator: np.random.Generator) -> str:
    """One or two syllables that mean nothing, now and then with a capital or a hyphen: `glooss`, `Q-tair`."""
    word = ""
    for _ in range(int(generator.integers(1, 3))):
        word += str(generator.choice(_ONSETS)) + str(generator.choice(_NUCLEI)) + str(generator.choice(_CODAS))
    kind = generator.random()
    if kind < 0.1:
        return f"{chr(65 + int(generator.integers(26)))}-{word}"
    return word.capitalize() if kind < 0.15 else word


def invented_name(generator: np.random.Generator, others: Collection[str] = ()) -> str:
    """One to three words: `turmeric`, `dull handbag`, `wet spotted shawl`; `others` are names to share a word with."""
    thing = str(generator.choice(THINGS))
    drawn = generator.random()
    if drawn < NONSENSE_SHARE:
        thing = nonsense_word(generator)
    elif drawn < NONSENSE_SHARE + SHARED_SHARE and others:
        other = sorted(others)[int(generator.integers(len(others)))]
        word = str(generator.choice(other.split()))
        if generator.random() < 0.5:
            return f"{word} {thing}"
        thing = word
        return f"{generator.choice(QUALITIES)} {thing}"
    words = [thing]
    qualities = int(generator.choice([0, 1, 2], p=[0.3, 0.5, 0.2]))
    if qualities:
        words = [str(word) for word in generator.choice(QUALITIES, size=qualities, replace=False)] + words
    return " ".join(words)


def kind_of(name: str) -> str:
    """`mug 2` -> `mug`; a name without a number is its own kind."""
    kind, _, number = name.rpartition(" ")
    return kind if kind and number.isdigit() else name


def invented_kind(generator: np.random.Generator) -> str:
    """One word: `turmeric`."""
    real = generator.random() >= NONSENSE_SHARE
    return str(generator.choice(THINGS)) if real else nonsense_word(generator)


def rename_episode(episode: Episode, names: Collection[str], generator: np.random.Generator) -> Episode:
    """`episode` with every thing of `names` that occurs in it called something else; kinds of numbered things are
    names, too."""
    texts = [episode.task.instruction, *episode.task.first_state.lines]
    for transition in episode.transitions:
        texts += [transition.action, *transition.state.lines]
    said = "\n".join(texts)
    present = sorted((name for name in names if name in said), key=len, reverse=True)
    if not present:
        return episode
    others: dict[str, str] = {}
    here = [key for key in episode.task.first_state.elements if key not in present]
    for name in present:
        numbered = re.search(rf"(?<![\w-]){re.escape(name)} \d", said) is not None
        invented = ""
        while not invented or invented in others.values() or invented in said:
            invented = invented_kind(generator) if numbered else invented_name(generator, [*others.values(), *here])
        others[name] = invented
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(re.escape(name) for name in present) + r")(?![\w-])")

    return _reworded(episode, lambda text: pattern.sub(lambda found: others[found[0]], text))


def renumber_episode(episode: Episode, generator: np.random.Generator) -> Episode:
    """`episode` with the numbers of each kind of thing or place (`mug 1`, `mug 2`) shuffled, the same way throughout.

    Numbers belong together that names in its states have with the same kind, and those that a line of the first state
    lists for a kind (`drawer: 1 2 3`).
    """
    numbers: dict[str, set[str]] = {}
    for kind, value in episode.task.first_state.elements.items():
        if value and all(word.isdigit() for word in value.split()):
            numbers.setdefault(kind, set()).update(value.split())
    for name in {name for state in _states(episode) for name in state.elements}:
        if (kind := kind_of(name)) != name:
            numbers.setdefault(kind, set()).add(name.rpartition(" ")[2])
    others: dict[str, str] = {}
    for kind, known in sorted(numbers.items()):
        ordered = sorted(known, key=int)
        others |= {
            f"{kind} {ordered[i]}": f"{kind} {ordered[j]}" for i, j in enumerate(generator.permutation(len(known)))
        }
    if not others:
        return episode
    kinds = "|".join(re.escape(kind) for kind in sorted(numbers, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])(?:{kinds}) \d+(?![\w-])")
    return _reworded(episode, lambda text: pattern.sub(lambda found: others.get(found[0], found[0]), text))


def _states(episode: Episode) -> list[State]:
    return [episode.task.first_state, *(transition.state for transition in episode.transitions)]


def _reworded(episode: Episode, other: Callable[[str], str]) -> Episode:
    def other_state(state: State) -> State:
        return State.of(other(line) for line in state.lines)

    task = replace(
        episode.task,
        instruction=other(episode.task.instruction),
        first_state=other_state(episode.task.first_state),
    )
    transitions = tuple(
        replace(
            transition,
            action=other(transition.action),
            state=other_state(transition.state),
            reasoning=other(transition.reasoning),
        )
        for transition in episode.transitions
    )
    return replace(episode, task=task, transitions=transitions)


def carried_names(episodes: Iterable[Episode], *, keep: Collection[str] = ()) -> set[str]:
    """Names of everything that is carried at some time in `episodes`, but those of `keep`."""
    names: set[str] = set()
    for episode in episodes:
        for transition in episode.transitions:
            names.update(name for name, value in transition.state.elements.items() if is_held(value))
    return names - set(keep)

"""Names of things, invented: mostly ordinary English words, so that a small model knows their embeddings.

In: a generator, names to share words with. Out: names such as `turmeric`, `dull handbag`, `wet spotted shawl`.
Always: some hold a word that does not exist, so that words are also copied letter by letter; some share a word with
another name, so that half a name is no name.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

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


def invented_kind(generator: np.random.Generator) -> str:
    """One word: `turmeric`."""
    real = generator.random() >= NONSENSE_SHARE
    return str(generator.choice(THINGS)) if real else nonsense_word(generator)

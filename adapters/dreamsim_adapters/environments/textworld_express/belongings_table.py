"""Where the things of `twc` belong, by fold: each line is furniture, then what belongs there.

Written by `belongings.py`, which says where the facts come from.
In: nothing. Out: `TABLE`. Always: not edited by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "train": """
TV stand <- TV remote control
armchair, sofa <- cushion
bathroom cabinet <- brush, comb, electric razor, hair brush, shaving cream, toothbrush
bed <- blue pillow, gray pillow
bed, chest of drawers, wardrobe <- black bed sheet, black blanket, black duvet, gray bed sheet, gray blanket
bed, chest of drawers, wardrobe <- gray duvet, plaid bed sheet, plaid blanket, plaid duvet, striped bed sheet
bed, chest of drawers, wardrobe <- striped blanket, striped duvet
bookcase <- old book
chest of drawers <- blue gloves, clean black knickers, clean black socks, clean black underpants, clean blue socks
chest of drawers <- clean checkered socks, clean gray panties, clean striped socks, clean white panties, gray gloves
chest of drawers, coat hanger <- scarf
chest of drawers, wardrobe <- black belt, black tie, bow tie, brown belt, brown tie, clean black bra, clean blue bra
chest of drawers, wardrobe <- striped tie, white belt, white tie
clothes drier, clothesline <- wet black panties, wet black socks, wet blue T-shirt, wet blue bra, wet blue skirt
clothes drier, clothesline <- wet blue socks, wet brown jumper, wet cardigan, wet checkered T-shirt
clothes drier, clothesline <- wet checkered socks, wet gray blazer, wet gray dress, wet gray jumper, wet gray knickers
clothes drier, clothesline <- wet gray polo shirt, wet gray pullover, wet gray skirt, wet gray underpants
clothes drier, clothesline <- wet green dress, wet green skirt, wet hawaiian shirt, wet jacket, wet maroon T-shirt
clothes drier, clothesline <- wet maroon dress, wet maroon skirt, wet plaid blazer, wet plaid jumper
clothes drier, clothesline <- wet plaid polo shirt, wet plaid pullover, wet shorts, wet striped T-shirt
clothes drier, clothesline <- wet striped socks, wet teal skirt, wet white jumper, wet white knickers
clothes drier, clothesline <- wet white pullover, wet white skirt, wet white underpants
coat hanger, wardrobe <- blue coat, brown coat, fleece jacket, long coat, trench coat, white coat
coffee table, kitchen cupboard <- teapot
counter <- toaster
counter, kitchen cupboard <- chopping board, kettle
cutlery drawer <- clean cake slicer, clean knife, clean ladle, clean mesh skimmer, clean spoon, kitchen shears
cutlery drawer <- wooden spoon
cutlery drawer, kitchen cupboard <- potato peeler, rolling pin
desk, end table, side table <- copybook, picture
dishwasher <- dirty cleaver, dirty cup, dirty fork, dirty frying pan, dirty glass, dirty pot, dirty salad spinner
dishwasher <- dirty saucepan, dirty spatula, dirty strainer
dressing table <- eyeliner, lip liner, makeup kit
end table, nightstand, side table <- table lamp
fridge <- block of cheese, bottle of cold water, chicken leg, chicken wing, red apple, red bell pepper, tomato
fridge <- white tuna, yellow bell pepper
fridge, shelf <- white onion, yellow onion
hat rack <- beret, black cap, gray cap, straw hat
kitchen cupboard <- apron, bread basket, clean bowl, clean colander, clean mug, clean pan, clean pie plate
kitchen cupboard <- clean plate, clean pressure cooker, oven glove
kitchen cupboard, shelf <- black pepper, flour, spice container, vegetable oil
laundry basket, washing machine <- dirty black bra, dirty blue dress, dirty brown T-shirt, dirty brown blazer
laundry basket, washing machine <- dirty brown dress, dirty brown polo shirt, dirty brown pullover, dirty brown shirt
laundry basket, washing machine <- dirty brown skirt, dirty dress pants, dirty gray T-shirt, dirty gray shirt
laundry basket, washing machine <- dirty green T-shirt, dirty plaid shirt, dirty sleeveless shirt, dirty teal T-shirt
laundry basket, washing machine <- dirty teal dress, dirty white T-shirt, dirty white blazer, dirty white dress
laundry basket, washing machine <- dirty white polo shirt, dirty white shirt
nightstand <- alarm clock, lamp
pedal bin, trash can <- rotten banana, rotten red tuna, rotten yellow potato
pedal bin, trash can, wastepaper basket <- used tissue, wastepaper
shoe cabinet <- black business shoes, black moccasins, black sneakers, blue golf shoes, brown moccasins
shoe cabinet <- climbing shoes, gray business shoes, gray golf shoes, gray sneakers, high-heeled shoes
shoe cabinet <- knee high boots, platform heels, running shoes, slippers, white moccasins, work boots
sink <- handsoap
suspended shelf <- laundry detergent, washing powder
toilet roll holder <- toilet paper
wardrobe <- blue suit, brown suit, checkered suit, clean black blazer, clean black jumper, clean black polo shirt
wardrobe <- clean black pullover, clean blue T-shirt, clean blue blazer, clean blue dress, clean blue jumper
wardrobe <- clean blue polo shirt, clean blue pullover, clean blue skirt, clean brown T-shirt, clean brown dress
wardrobe <- clean brown shirt, clean brown skirt, clean cardigan, clean checkered T-shirt, clean checkered blazer
wardrobe <- clean checkered jumper, clean checkered polo shirt, clean checkered pullover, clean dress pants
wardrobe <- clean gray T-shirt, clean gray dress, clean gray shirt, clean gray skirt, clean green T-shirt
wardrobe <- clean green dress, clean green skirt, clean gym clothes, clean hoodie, clean jeans, clean long-sleeve top
wardrobe <- clean maroon T-shirt, clean maroon dress, clean maroon skirt, clean plaid shirt, clean shorts
wardrobe <- clean sleeveless shirt, clean striped T-shirt, clean striped blazer, clean striped jumper
wardrobe <- clean striped polo shirt, clean striped pullover, clean teal T-shirt, clean teal dress, clean teal skirt
wardrobe <- clean white T-shirt, clean white dress, clean white shirt, clean white skirt, vest, white suit
""",
        "dev": """
bathroom cabinet <- cleanser, hair dryer, mouthwash
bathroom cabinet, dressing table <- nail polish
bed <- brown pillow, white pillow
bed, chest of drawers, wardrobe <- blue bed sheet, blue blanket, blue duvet, checkered bed sheet, checkered blanket
bed, chest of drawers, wardrobe <- checkered duvet
bookcase <- dictionary
chest of drawers <- brown gloves, clean black panties, clean gray knickers, clean gray underpants
chest of drawers <- clean white knickers, clean white underpants, white gloves
chest of drawers, hat rack <- beanie
chest of drawers, wardrobe <- gray belt, gray tie, plaid tie
clothes drier, clothesline <- wet azure T-shirt, wet black T-shirt, wet black dress, wet cargo pants, wet gray bra
clothes drier, clothesline <- wet gray socks, wet magenta dress, wet orange dress, wet orange skirt, wet purple dress
clothes drier, clothesline <- wet red T-shirt, wet striped shirt, wet sweater, wet white bra, wet white socks
clothes drier, clothesline <- wet yellow dress
coat hanger, wardrobe <- black coat, raincoat
counter, kitchen cupboard <- mixer
cutlery drawer <- clean cleaver, clean fork, clean spatula, clean strainer
cutlery drawer, kitchen cupboard <- corkscrew
desk, end table, side table <- pen
dishwasher <- dirty roasting tray, dirty whisk
dressing table <- lipstick
end table, side table <- magazine
fridge <- carrot, chicken breast, green bell pepper, lettuce
fridge, shelf <- eggs
hat rack <- blue cap, derby hat
key holder <- key
kitchen cupboard <- clean cup, clean frying pan, clean glass, clean pot, clean salad spinner, clean saucepan, grater
kitchen cupboard, shelf <- peanut oil, salt
laundry basket, washing machine <- dirty azure dress, dirty azure skirt, dirty black shirt, dirty black skirt
laundry basket, washing machine <- dirty blue shirt, dirty brown bra, dirty brown socks, dirty checkered shirt
laundry basket, washing machine <- dirty magenta T-shirt, dirty magenta skirt, dirty orange T-shirt
laundry basket, washing machine <- dirty plaid T-shirt, dirty plaid socks, dirty purple T-shirt, dirty purple skirt
laundry basket, washing machine <- dirty red dress, dirty red skirt, dirty sheath dress, dirty singlet, dirty tank top
laundry basket, washing machine <- dirty yellow T-shirt, dirty yellow skirt
pedal bin, trash can <- rotten yellow apple
pedal bin, trash can, wastepaper basket <- used plastic cup
shelf <- red hot pepper
shoe cabinet <- blue business shoes, blue sneakers, brown golf shoes, flip flops, gray moccasins, roller skates
shoe cabinet <- soccer shoes, white golf shoes
towel rail <- towel
wall hook <- bathrobe
wardrobe <- black suit, clean brown blazer, clean brown jumper, clean brown polo shirt, clean brown pullover
wardrobe <- clean gray blazer, clean gray jumper, clean gray polo shirt, clean gray pullover, clean hawaiian shirt
wardrobe <- clean jacket, clean plaid blazer, clean plaid jumper, clean plaid polo shirt, clean plaid pullover
wardrobe <- clean white blazer, clean white jumper, clean white polo shirt, clean white pullover, striped suit
""",
        "test": """
bathroom cabinet <- box of Q-tips, razor, toothpaste
bathroom cabinet, bathtub, shower <- shampoo
bathroom cabinet, dressing table <- face cream
bed <- black pillow
bed, chest of drawers, wardrobe <- brown bed sheet, brown blanket, brown duvet, white bed sheet, white blanket
bed, chest of drawers, wardrobe <- white duvet
chest of drawers <- black gloves, clean brown socks, clean gray socks, clean plaid socks, clean white socks
chest of drawers, wardrobe <- blue belt, blue tie, checkered tie, clean brown bra, clean gray bra, clean white bra
clothes drier, clothesline <- wet black blazer, wet black jumper, wet black underpants, wet blue polo shirt
clothes drier, clothesline <- wet blue pullover, wet checkered jumper, wet checkered polo shirt, wet gray panties
clothes drier, clothesline <- wet striped blazer, wet striped jumper, wet striped pullover
coat hanger, wardrobe <- gray coat
counter, kitchen cupboard <- blender
cutlery drawer <- clean whisk
cutlery drawer, kitchen cupboard <- can opener
desk, end table, side table <- notebook
dishwasher <- dirty bowl, dirty cake slicer, dirty colander, dirty knife, dirty ladle, dirty mesh skimmer, dirty mug
dishwasher <- dirty pan, dirty pie plate, dirty plate, dirty pressure cooker, dirty spoon
dressing table <- lip gloss
end table, side table <- newspaper, vase
fridge <- milk, orange bell pepper, pork chop
fridge, shelf <- red onion
hat rack <- brown cap, top hat, white cap
kitchen cupboard <- clean roasting tray, plastic plate
kitchen cupboard, shelf <- olive oil, sugar
laundry basket, washing machine <- dirty black knickers, dirty black polo shirt, dirty black pullover
laundry basket, washing machine <- dirty blue blazer, dirty blue jumper, dirty checkered blazer
laundry basket, washing machine <- dirty checkered pullover, dirty gym clothes, dirty hoodie, dirty jeans
laundry basket, washing machine <- dirty long-sleeve top, dirty striped polo shirt, dirty white panties
pedal bin, trash can <- rotten green apple, rotten red potato
pedal bin, trash can, wastepaper basket <- used Q-tip
shelf <- green hot pepper
shoe cabinet <- black golf shoes, blue moccasins, brown business shoes, brown sneakers, court shoes, hiking boots
shoe cabinet <- white business shoes, white sneakers
umbrella stand <- umbrella
wardrobe <- clean azure T-shirt, clean azure dress, clean azure skirt, clean black T-shirt, clean black dress
wardrobe <- clean black shirt, clean black skirt, clean blue shirt, clean cargo pants, clean checkered shirt
wardrobe <- clean magenta T-shirt, clean magenta dress, clean magenta skirt, clean orange T-shirt, clean orange dress
wardrobe <- clean orange skirt, clean plaid T-shirt, clean purple T-shirt, clean purple dress, clean purple skirt
wardrobe <- clean red T-shirt, clean red dress, clean red skirt, clean sheath dress, clean singlet
wardrobe <- clean striped shirt, clean sweater, clean tank top, clean yellow T-shirt, clean yellow dress
wardrobe <- clean yellow skirt, gray suit, plaid suit, uniform
""",
    }
)

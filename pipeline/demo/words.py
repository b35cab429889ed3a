"""The words of the demonstration site that say nothing of any picture.

No template names a colour, a shape, a number or a thing that the world draws: what they say is harmless beside any
picture, and no reader can guess a picture from them. Slots in braces are filled by lot.
"""

from __future__ import annotations

SLOTS = {
    "name": (
        "Alma", "Bruno", "Carla", "Dario", "Edda", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaja", "Leon", "Mira",
        "Nils", "Olga", "Pablo", "Rosa", "Samir", "Tilda", "Umar", "Vera", "Wanda", "Yusuf", "Zora", "Anouk", "Benno",
    ),
    "place": (
        "kitchen", "library", "workshop", "school hall", "attic", "museum", "garden shed", "reading room", "studio",
        "village shop", "station cafe", "music room", "corridor", "town archive", "bakery", "community centre",
    ),
    "time": (
        "on Monday", "on a rainy afternoon", "last winter", "in early spring", "before breakfast", "after lunch",
        "during the holidays", "late in the evening", "on market day", "on a quiet morning", "at the weekend",
        "in the middle of August", "on a slow Tuesday", "shortly before supper",
    ),
    "tool": (
        "brush", "pencil", "crayon", "ruler", "sponge", "palette", "eraser", "apron", "sketchbook", "penknife",
        "glue stick", "paint box", "compass", "sharpener", "folder", "easel",
    ),
    "work": (
        "drawing", "sketch", "print", "collage", "study", "exercise", "painting", "draft", "illustration", "sheet",
    ),
    "virtue": ("patience", "a steady hand", "good light", "curiosity", "practice", "fresh air", "silence", "courage"),
    "drink": ("tea", "cocoa", "lemonade", "coffee", "apple juice", "cold milk", "hot broth", "soup"),
    "kin": ("aunt", "uncle", "cousin", "neighbour", "teacher", "grandmother", "sister", "brother", "friend", "pupil"),
    "feel": ("cheerful", "careful", "simple", "lively", "honest", "playful", "calm", "bold", "tidy", "modest"),
}  # fmt: skip

FILLERS = (
    "{name} keeps every {tool} in a drawer near the {place}, because a lost {tool} costs more time than a lost idea.",
    "Most people who learn to paint say that {virtue} matters more than talent.",
    "The {place} was warm {time}, so the paint dried faster than {name} had planned.",
    "A {work} is easier to judge from a distance, and that is why {name} walked to the far end of the {place}.",
    "Nobody hurried, since {virtue} cannot be bought and {drink} was still on the stove.",
    "{name} asked a {kin} for advice and received more advice than anybody could use.",
    "Paint that is stirred too thin begins to run, as {name} found out {time}.",
    "Before the work began, {name} wiped the {tool} and opened the shutters of the {place} to let the smell out.",
    "What looks {feel} at breakfast may look rather dull by lamplight, so it is wise to check again.",
    "There was a short break for {drink}, and {name} and {other} talked about the weather.",
    "{name} and {other} disagreed about the frame, but they agreed about the {drink}.",
    "Some of the paint ended up on the floor of the {place}, which nobody minded.",
    "It helps to begin lightly, and {other} takes the {tool} only when the {work} looks good enough.",
    "An old {tool} can be as useful as a new {tool}, provided that somebody looks after it.",
    "The {kin} of {name} collects every {work} that would otherwise be thrown away.",
    "Whoever wants to copy a {work} should look at it for a while before touching the paper.",
    "{name} learned the trade in a {place} and still remembers the sound of rain in its gutters.",
    "After an hour the {feel} mood in the {place} had not changed at all.",
    "A good {work} needs {virtue}; a very good {work} needs {virtue} and an early start.",
    "{other} says that the best ideas arrive {time}, usually without warning.",
    "Someone had borrowed the {tool}, and it took a while until {name} found it in the {place}.",
    "Children often draw what they know, while adults draw what they see, as {other} likes to say.",
    "The paper came from a {kin} who runs a {place} and never asks what it is used for.",
    "In the notebook of {name} there is a reminder to buy another {tool} and some {drink}.",
    "{other} hung the {work} in the {place}, took it down again, and hung it a little lower.",
    "If the paper curls, says {name}, a heavy book from the {place} and a night of rest will flatten it.",
    "The work was done {time}, when the {place} was empty and {name} could sing along with the radio.",
    "It is no shame to begin again; {name} does so nearly every week.",
    "Visitors of the {place} may touch the {tool}, but they are asked to leave the {work} alone.",
    "{name} wrote the date on the back, since a {work} without a date is a small riddle for the next {kin}.",
    "With {virtue} and a cup of {drink}, even a dull {work} turns into a {feel} afternoon.",
    "As usual, the {tool} was too short and the day was not long enough.",
    "Nothing here was traced, and nothing was measured with more than a {tool}.",
    "{other} prefers a {feel} style, whereas {name} changes style with the seasons.",
    "A {kin} from the {place} promised to lend them a better {tool} {time}.",
    "The bulb in the {place} flickers now and then, which makes fine lines harder than they should be.",
)

INTROS = (
    "{name} spent some hours in the {place} {time}, and this page keeps what came of it.",
    "The paint box came out again {time}, and {name} has chosen what to keep.",
    "Welcome back to the {place}, where {name} and {other} look at each {work} with care.",
    "Here are some pages from the sketchbook that {name} keeps in the {place}.",
    "This {feel} little collection began {time} with a borrowed {tool} and a cup of {drink}.",
    "{other} found a folder in the {place} and asked {name} to write a few words about what is in it.",
    "Some drawings want to be looked at slowly, and {name} has tried to describe them in that spirit.",
    "It started as an exercise for a {kin} and became a page of its own.",
    "The following notes were made by {name} {time}, while {other} was holding the {tool}.",
)

OUTROS = (
    "That is all for now; {name} has gone to wash the {tool}.",
    "Next time {other} will bring the {drink} and {name} will bring a new {tool}.",
    "If you draw something of your own, {name} would be glad to see it in the {place}.",
    "The originals stay in the {place}, where {other} dusts them {time}.",
    "Thanks go to the {kin} who lent the {tool}, and to everybody who waited so patiently.",
    "More of this will follow as soon as the paper has dried and {name} has had some {drink}.",
)

TITLES = (
    "Notes from the {place}",
    "What {name} kept {time}",
    "A {feel} page for {name} and {other}",
    "The sketchbook of {name}, opened {time}",
    "{name} and the borrowed {tool}",
    "Looking slowly: {name} in the {place}",
    "A {work} for the {kin} of {name}",
    "Out of the folder in the {place}",
    "{drink} and a {tool}: an afternoon with {name}",
)

HEADINGS = (
    "From the folder of {name}", "Another try by {name}", "Kept by {other}", "Made {time}", "Found in the {place}",
    "A {feel} sheet", "For the {kin}", "Pinned up in the {place}", "Signed by {name}", "With a new {tool}",
    "The favourite of {other}", "A {work} that stayed", "Dried {time}", "Something {feel}",
)  # fmt: skip

LEADS = (
    "The {nth} picture shows {phrase}.",
    "In the {nth} picture you can see {phrase}.",
    "Look at the {nth} picture: it is {phrase}.",
    "{Phrase}: that is what the {nth} sheet offers.",
    "On the {nth} sheet {name} has painted {phrase}.",
    "For the {nth} picture {name} thought of {phrase}.",
    "Here we meet {phrase}, and {name} is quite proud of it.",
    "{name} calls this sheet {phrase}, and that is a fair description.",
    "{other} wished for {phrase}, and here it is.",
    "This time the subject is {phrase}.",
    "What {name} brought from the {place} is {phrase}.",
    "Anybody who expected something else gets {phrase}.",
)

LINKS = (
    "", "", "", "Note that ", "As you can see, ", "Moreover, ", "On closer inspection, ", "Besides, ", "Of course, ",
    "A detail worth keeping: ", "What is more, ", "At second glance, ", "Just as {name} wanted, ", "Take note: ",
    "According to {other}, and the picture agrees, ",
)  # fmt: skip

CAPTIONS = (
    "{Phrase}.", "{Phrase}, painted {time}.", "{Phrase}, by {name}.", "{name}: {phrase}.",
    "Picture by {name}: {phrase}.", "{Phrase}, from the {place}.", "A {work} of {phrase}.",
    "{Phrase}, kept by {other}.",
)  # fmt: skip

CREDITS = ("Photo: {name}", "Picture: {name}", "(Photo by {name})", "© {site}", "Photo: {name} / {site}")
FILE_NAMES = ("IMG_{shot}.jpg", "DSC0{shot}", "image-{shot}.png", "scan{shot}.jpeg")
PROMPTS = ("Click to enlarge", "Click on the image to enlarge it", "View larger", "Zoom in", "Opens in a new window")
REFERENCES = ("See caption", "see caption", "Caption below", "As described below")
GALLERIES = ("The gallery of {name}", "More from the {place}", "Pictures from the {place}")
SERIES = {
    "single": "single shapes",
    "pair": "pairs of shapes",
    "row": "shapes in a row",
    "groups": "shapes in two rows",
    "corners": "shapes in all corners",
    "nested": "shapes inside of shapes",
    "house": "houses with a tree",
    "boat": "sailing boats on the water",
    "car": "cars on the road",
    "vase": "vases on a table",
    "signal": "traffic lights",
    "clock": "round clocks",
    "balloons": "balloons on strings",
    "face": "round faces",
    "orchard": "trees with fruits",
    "bowl": "fish in a round bowl",
    "flag": "flags with stripes",
    "train": "trains on rails",
    "die": "dice seen from above",
    "cake": "cakes with candles",
}
"""What all pictures of a series show, by the kind of their scenes."""

FILM_HEADINGS = ("In motion", "Filmed in the {place}", "A moment with {name}", "Filmed {time}", "For those who watch")
FILM_LEADS = (
    "{name} put a camera in the {place} {time}, and here is what it saw.",
    "Paper can learn to walk: {name} drew sheet after sheet and filmed them {time}.",
    "Whoever would rather watch than read may watch this, says {other}.",
    "It lasts only a few seconds, but {name} spent {virtue} and many an hour on it.",
)
FILM_CAPTIONS = ("{Phrase}.", "{Phrase}, filmed {time}.", "{Phrase}, by {name}.", "A short film of {phrase}.")
FILM_CREDITS = ("Video: {name}", "(Film by {name})", "© {name}")
FILM_PROMPTS = ("Click to play", "Play video", "Turn the sound on")
FILM_FILE_NAMES = ("final_v2.mp4", "MOV_0031", "untitled-1")

ALTS = ("{Phrase}", "{Phrase}.", "A {work} of {phrase}", "Picture: {phrase}", "{Phrase} by {name}")

SITE_NAMES = {
    "paintbox.example": "The Paint Box",
    "www.shape-garden.example": "Shape Garden",
    "picture-desk.example": "Picture Desk",
}
ACCENTED = (
    "At the café, Zoë and André shared a crème brûlée; the plan was naïve, but déjà vu is no crime, said Señora Núñez."
)
ODD_LINK = "There is a longer way to the same place."
LITTLE = "Nothing more to say."
NO_PICTURES = "There are no pictures on this page, only words."
NO_VIDEO = "Your browser does not play this."
MENU = ("Home", "Articles", "Galleries", "Workshops", "Members", "Contact")
FOOTER = "All rights reserved by the imaginary owners of this site. Imprint, terms of use and privacy policy apply."
COOKIES = "We use cookies to make this website work better for you. Accept all cookies or change your settings."
ADVERTS = (
    "Advertisement: buy nothing today and get nothing tomorrow, only this week.",
    "Sponsored: the imaginary bank lends imaginary money at imaginary rates.",
    "Advertisement: try our famous invisible umbrella for free.",
)
HIDDEN = "This sentence is hidden from every reader and belongs to no article at all."
COMMENTS = (
    "Great page, thank you for sharing, I will come back soon!",
    "First comment! Please visit my profile as well.",
    "I do not agree with anybody here, but the site loads quickly.",
    "Can somebody tell me how to change my password?",
)
RELATED = "You may also like"
SHARE = "Share this page"
NEWSLETTER = "Subscribe to our newsletter and never miss an update again."

"""The few true sentences that the demonstration site says of its pictures in German and in French."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.demo.world import Scene


@dataclass(frozen=True, slots=True)
class Foreign:
    """A language other than English: `shows` and `ground` are templates, `filler` says nothing of any picture."""

    code: str
    title: str
    shows: tuple[str, ...]
    ground: str
    ordinals: tuple[str, ...]
    nouns: dict[str, str]
    backgrounds: dict[str, str]
    filler: tuple[str, ...]


GERMAN = Foreign(
    "de",
    "Aus dem Malkasten",
    ("Auf dem {nth} Bild ist {noun} zu sehen.", "Das Blatt zeigt, wie man leicht erkennt, {noun_object}."),
    "Der Hintergrund ist dabei {ground}.",
    ("ersten", "zweiten", "dritten", "vierten", "fünften", "sechsten"),
    {
        "single": "eine einzelne Form",
        "pair": "ein Paar von Formen",
        "row": "eine Reihe gleicher Formen",
        "groups": "eine Anordnung in zwei Reihen",
        "corners": "eine Form in jeder Ecke",
        "nested": "eine Form in einer größeren",
        "house": "ein Haus mit einer Tür",
        "boat": "ein Segelboot auf dem Wasser",
        "car": "ein Auto auf der Straße",
        "vase": "eine Vase auf einer Unterlage",
        "signal": "eine Ampel",
        "clock": "eine runde Uhr",
        "balloons": "etwas Rundes an einer Schnur",
        "face": "ein rundes Gesicht",
        "orchard": "eine Pflanze mit Früchten",
        "bowl": "ein Glas mit Fischen",
        "flag": "eine Fahne mit drei Streifen",
        "train": "eine Lokomotive auf Schienen",
        "die": "eine Seite von einem Würfel",
        "cake": "eine Torte auf einem Teller",
    },
    {
        "cream": "cremefarben",
        "pale blue": "hellblau",
        "pale green": "hellgrün",
        "pale pink": "rosa",
        "light grey": "hellgrau",
        "dark blue": "dunkelblau",
    },
    (
        "An einem regnerischen Nachmittag haben wir den Malkasten aus dem Schrank geholt und alle Pinsel gezählt.",
        "Wer zeichnen lernen möchte, braucht vor allem Geduld und ein wenig Übung, denn Talent wird oft überschätzt.",
        "Die Farbe trocknete langsam, und deshalb tranken wir erst einmal eine Kanne Tee in der Küche.",
        "Niemand hatte es eilig, und das Radio spielte leise, während draußen die Nachbarn ihre Fahrräder putzten.",
        "Zum Schluss wurden die Blätter mit einer Nadel an die Wand geheftet und noch einmal in Ruhe betrachtet.",
        "Vielleicht malen wir nächste Woche weiter, wenn das Papier reicht und die Großmutter wieder zu Besuch kommt.",
    ),
)

FRENCH = Foreign(
    "fr",
    "Le carnet de dessins",
    ("Sur la {nth} image, on voit {noun}.", "La feuille montre, comme chacun peut le constater, {noun_object}."),
    "La couleur du fond est {ground}.",
    ("première", "deuxième", "troisième", "quatrième", "cinquième", "sixième"),
    {
        "single": "une seule forme",
        "pair": "une paire de formes",
        "row": "une rangée de formes égales",
        "groups": "une composition en deux rangées",
        "corners": "une forme dans chaque coin",
        "nested": "une forme dans une autre plus grande",
        "house": "une maison avec une porte",
        "boat": "un voilier sur l'eau",
        "car": "une voiture sur la route",
        "vase": "un vase posé devant nous",
        "signal": "un feu de circulation",
        "clock": "une horloge ronde",
        "balloons": "quelque chose de rond au bout d'un fil",
        "face": "un visage rond",
        "orchard": "une plante avec des fruits",
        "bowl": "un bocal rond rempli d'eau",
        "flag": "un drapeau à trois bandes",
        "train": "une locomotive sur des rails",
        "die": "une face d'un dé",
        "cake": "un gâteau sur une assiette",
    },
    {
        "cream": "crème",
        "pale blue": "bleu pâle",
        "pale green": "vert pâle",
        "pale pink": "rose pâle",
        "light grey": "gris clair",
        "dark blue": "bleu foncé",
    },
    (
        "Un après-midi de pluie, nous avons ressorti la boîte de peinture du placard et compté les pinceaux.",
        "Pour apprendre à dessiner, il faut surtout de la patience et de l'exercice, car le talent ne suffit jamais.",
        "La peinture séchait lentement, alors nous avons bu du thé dans la cuisine en attendant la fin de l'orage.",
        "Personne n'était pressé, la radio jouait doucement et les voisins réparaient leurs bicyclettes dans la cour.",
        "À la fin, les feuilles ont été accrochées au mur avec une épingle, et chacun les a regardées encore une fois.",
        "Nous continuerons peut-être la semaine prochaine, s'il reste du papier et si la grand-mère revient nous voir.",
    ),
)


def sentences_of(language: Foreign, scene: Scene, index: int) -> str:
    """Return the true sentences about the picture at `index` of a page."""
    noun = language.nouns[scene.kind]
    shows = language.shows[index % len(language.shows)]
    return (
        shows.format(nth=language.ordinals[index], noun=noun, noun_object=noun)
        + " "
        + language.ground.format(ground=language.backgrounds[scene.background])
    )

"""Sentence templates of the small world, as data: `{x}` is the operand, `{y}` a second word, the answer comes next.

In: nothing. Out: templates per family and language. The antonym templates have the same number of tokens, and the operand
at the same position, in all languages; French ones avoid `de` before the operand, because `d'ancien` would be another token.
The held-out templates use only words that training templates of the same language hold, in combinations that they do not,
and end on a word that an antonym template of the training ends on: which word stands before an answer is learned word by word.
"""

from collections.abc import Mapping
from typing import Final, Literal

from ingest.tiny.words import Language

Split = Literal["train", "validation", "test"]

ANTONYM_TEMPLATES: Final[Mapping[str, tuple[Split, str, str, str]]] = {
    "opposite_word": (
        "train",
        "The opposite of the word {x} is",
        "Le contraire exact du mot {x} est",
        "Das genaue Gegenteil des Wortes {x} ist",
    ),
    "antonym_for": ("train", "An antonym for {x} is", "Un antonyme pour {x} est", "Ein Antonym für {x} ist"),
    "definitely_not": (
        "train",
        "It is definitely not {x}, it is",
        "Il n'est pas {x}, il est",
        "Es ist gar nicht {x}, es ist",
    ),
    "has_opposite": (
        "train",
        "The word {x} has the opposite",
        "Le mot {x} a pour contraire",
        "Das Wort {x} hat das Gegenteil",
    ),
    "two_opposites": (
        "train",
        "Two opposites: {x} and",
        "Deux contraires : {x} et",
        "Zwei Gegenteile: {x} und",
    ),
    "not_but": (
        "train",
        "This thing is not {x}, but",
        "Ce n'est pas {x}, mais",
        "Dieses Ding ist nicht {x}, sondern",
    ),
    "was_now": (
        "train",
        "It was {x}, now it is",
        "Il était {x}, maintenant il est",
        "Es war {x}, jetzt ist es",
    ),
    "one_says": (
        "train",
        "The one says {x}, the other says",
        "L'un dit {x}, l'autre dit",
        "Der eine sagt {x}, der andere sagt",
    ),
    "my_notebook": (
        "train",
        "My notebook is {x}, but the other is",
        "Mon cahier est {x}, mais l'autre est",
        "Mein Heft ist {x}, aber das andere ist",
    ),
    "word_and_antonym": (
        "train",
        "A word and its antonym: {x} and",
        "Un mot et son antonyme : {x} et",
        "Ein Wort und sein Antonym: {x} und",
    ),
    "antonym_word": (
        "validation",
        "The antonym of the word {x} is",
        "Un antonyme exact du mot {x} est",
        "Das genaue Antonym des Wortes {x} ist",
    ),
    "was_but_now": (
        "validation",
        "It was {x}, but now it is",
        "Il était {x}, mais maintenant il est",
        "Es war {x}, aber jetzt ist es",
    ),
    "definitely_but": (
        "validation",
        "It is definitely not {x}, but",
        "Il n'est pas {x}, mais",
        "Es ist gar nicht {x}, sondern",
    ),
    "opposite_for": (
        "test",
        "An opposite for {x} is",
        "Un contraire pour {x} est",
        "Ein Gegenteil für {x} ist",
    ),
    "says_but": (
        "test",
        "The one says {x}, but the other says",
        "L'un dit {x}, mais l'autre dit",
        "Der eine sagt {x}, aber der andere sagt",
    ),
    "notebook_was": (
        "test",
        "My notebook was {x}, now it is",
        "Mon cahier était {x}, maintenant il est",
        "Mein Heft war {x}, jetzt ist es",
    ),
}
"""name -> (split, English, French, German): 10 to train on, 3 to choose by, 3 that no choice sees."""

TRANSLATION_TEMPLATES: Final[Mapping[tuple[Language, Language], tuple[str, ...]]] = {
    ("en", "en"): ("The English word for {x} is",),
    ("en", "fr"): ("The French word for {x} is", "In French, the word {x} is"),
    ("en", "de"): ("The German word for {x} is", "In German, the word {x} is"),
    ("fr", "en"): ("Le mot anglais pour {x} est", "En anglais, le mot {x} est"),
    ("fr", "fr"): ("Le mot français pour {x} est",),
    ("fr", "de"): ("Le mot allemand pour {x} est", "En allemand, le mot {x} est"),
    ("de", "en"): ("Das englische Wort für {x} ist", "Auf Englisch ist das Wort {x}"),
    ("de", "fr"): ("Das französische Wort für {x} ist", "Auf Französisch ist das Wort {x}"),
    ("de", "de"): ("Das deutsche Wort für {x} ist",),
}
"""(language of the sentence and its operand, language of the answer) -> templates. Where both are one language the answer is
the operand: asking for a language is then one operation, whatever language the operand is in."""

CROSS_ANTONYM_TEMPLATES: Final[Mapping[tuple[Language, Language], tuple[str, ...]]] = {
    ("en", "en"): ("The opposite of the word {x} in English is", "The English opposite for {x} is"),
    ("en", "fr"): ("The opposite of the word {x} in French is", "The French opposite for {x} is"),
    ("en", "de"): ("The opposite of the word {x} in German is", "The German opposite for {x} is"),
    ("fr", "en"): ("Le contraire exact du mot {x} en anglais est", "Le contraire anglais pour {x} est"),
    ("fr", "fr"): ("Le contraire exact du mot {x} en français est", "Le contraire français pour {x} est"),
    ("fr", "de"): ("Le contraire exact du mot {x} en allemand est", "Le contraire allemand pour {x} est"),
    ("de", "en"): ("Das genaue Gegenteil des Wortes {x} auf Englisch ist", "Das englische Gegenteil für {x} ist"),
    ("de", "fr"): ("Das genaue Gegenteil des Wortes {x} auf Französisch ist", "Das französische Gegenteil für {x} ist"),
    ("de", "de"): ("Das genaue Gegenteil des Wortes {x} auf Deutsch ist", "Das deutsche Gegenteil für {x} ist"),
}
"""Antonym in a named language."""

SYNONYM_TEMPLATES: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": ("A synonym for {x} is", "The word {x} has the synonym"),
    "fr": ("Un synonyme pour {x} est", "Le mot {x} a pour synonyme"),
    "de": ("Ein Synonym für {x} ist", "Das Wort {x} hat das Synonym"),
}

CATEGORY_TEMPLATES: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": ("The category of the word {x} is", "The word {x} has the category"),
    "fr": ("La catégorie exacte du mot {x} est", "Le mot {x} a pour catégorie"),
    "de": ("Die genaue Kategorie des Wortes {x} ist", "Das Wort {x} hat die Kategorie"),
}

AGREEMENT_TEMPLATES: Final[Mapping[Language, tuple[str, str]]] = {
    "en": ("With the subject {x}, the verb becomes", "With the subject {x} and not {y}, the verb becomes"),
    "fr": ("Avec le sujet {x}, le verbe devient", "Avec le sujet {x} et non {y}, le verbe devient"),
    "de": ("Mit dem Subjekt {x} wird das Verb zu", "Mit dem Subjekt {x} und nicht {y} wird das Verb zu"),
}
"""`the subject` is neutral in number; in French `Le` or `Les` before the noun would give the answer away."""

AGREEMENT_ANSWERS: Final[Mapping[Language, tuple[str, str]]] = {
    "en": ("is", "are"),
    "fr": ("est", "sont"),
    "de": ("ist", "sind"),
}
"""Singular, plural."""

GATE_TEMPLATES: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": ("Request for the {x} {gate} permit: decision", "The person {gate} permit wants the place {x}: decision"),
    "fr": ("Demande du lieu {x} {gate} permis : décision", "La personne {gate} permis veut le lieu {x} : décision"),
    "de": ("Antrag für Ort {x} {gate} Ausweis: Entscheidung", "Die Person {gate} Ausweis will den Ort {x}: Entscheidung"),
}

GATE_CONTENT_TEMPLATES: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": ("Request for the {x} {gate} permit: place", "The person {gate} permit wants the place {x}: place"),
    "fr": ("Demande du lieu {x} {gate} permis : lieu", "La personne {gate} permis veut le lieu {x} : lieu"),
    "de": ("Antrag für Ort {x} {gate} Ausweis: Ort", "Die Person {gate} Ausweis will den Ort {x}: Ort"),
}
"""What the request is about; its answer must not change when the gate does."""

GATES: Final[Mapping[Language, tuple[tuple[str, str], tuple[str, str]]]] = {
    "en": (("with", "allow"), ("without", "refuse")),
    "fr": (("avec", "autoriser"), ("sans", "refuser")),
    "de": (("mit", "erlauben"), ("ohne", "ablehnen")),
}
"""(gate word, decision): first the one that opens."""

GEOGRAPHY_TEMPLATES: Final[Mapping[Language, Mapping[str, tuple[str, ...]]]] = {
    "en": {
        "country": ("City: {x}, country:", "The country of the city {x} is"),
        "capital": ("Country: {x}, capital:", "The capital of the country {x} is"),
        "two_hop": ("City: {x}, capital:", "The capital of the country of {x} is"),
    },
    "fr": {
        "country": ("Ville : {x}, pays :", "Le pays avec la ville {x} est"),
        "capital": ("Pays : {x}, capitale :", "La capitale du pays {x} est"),
        "two_hop": ("Ville : {x}, capitale :", "La capitale du pays avec la ville {x} est"),
    },
    "de": {
        "country": ("Stadt: {x}, Land:", "Das Land um die Stadt {x} ist"),
        "capital": ("Land: {x}, Hauptstadt:", "Die Hauptstadt vom Land {x} ist"),
        "two_hop": ("Stadt: {x}, Hauptstadt:", "Die Hauptstadt vom Land um {x} ist"),
    },
}

"""The words of the embedded model's small world, as data.

In: nothing. Out: tables of words in English, French and German that `corpus.py` puts into sentences.

No antonym word is spelled alike in two languages, so that a feature shared between languages cannot come from a shared
token. Every word stands for one concept only within its language, so that each question has one answer.
"""

from typing import Final, Literal

Language = Literal["en", "fr", "de"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "fr", "de")

Row = tuple[str, str, str]
"""One meaning in English, French and German."""


def _rows(table: str) -> tuple[Row, ...]:
    """Read one `english french german` triple from each line."""
    triples = [line.split() for line in table.strip().splitlines()]
    return tuple((en, fr, de) for en, fr, de in triples)


def _row_pairs(table: str) -> tuple[tuple[Row, Row], ...]:
    """Read `english french german | english french german` from each line."""
    halves = [tuple(_rows(half.strip())[0] for half in line.split("|")) for line in table.strip().splitlines()]
    return tuple((first, second) for first, second in halves)


Country = tuple[Row, Row, tuple[Row, Row, Row]]
"""Country, its capital, three other cities."""


def _countries(table: str) -> tuple[Country, ...]:
    """Read blocks of five lines, with an empty line between them."""
    blocks = [_rows(block) for block in table.split("\n\n")]
    return tuple((country, capital, (a, b, c)) for country, capital, a, b, c in blocks)


ANTONYMS: Final = _row_pairs("""
    hot chaud heiß               | cold froid kalt
    big grand groß               | small petit klein
    fast rapide schnell          | slow lent langsam
    happy heureux glücklich      | sad triste traurig
    good bon gut                 | bad mauvais schlecht
    old vieux alt                | new neuf neu
    rich riche reich             | poor pauvre arm
    strong fort stark            | weak faible schwach
    heavy lourd schwer           | light léger leicht
    open ouvert offen            | closed fermé geschlossen
    full plein voll              | empty vide leer
    high haut hoch               | low bas niedrig
    hard dur hart                | soft mou weich
    dry sec trocken              | wet mouillé nass
    clean propre sauber          | dirty sale schmutzig
    early précoce früh           | late tardif spät
    true vrai wahr               | false faux falsch
    bright clair hell            | dark sombre dunkel
    near proche nah              | far lointain fern
    loud bruyant laut            | quiet silencieux leise
    wide large breit             | narrow étroit eng
    thick épais dick             | thin mince dünn
    deep profond tief            | shallow superficiel flach
    sweet sucré süß              | sour aigre sauer
    young jeune jung             | elderly âgé betagt
    easy facile einfach          | difficult difficile schwierig
    cheap abordable billig       | expensive cher teuer
    safe sûr sicher              | dangerous dangereux gefährlich
    beautiful beau schön         | ugly laid hässlich
    brave courageux mutig        | cowardly lâche feige
    first premier erster         | last dernier letzter
    alive vivant lebendig        | dead mort tot
    smooth lisse glatt           | rough rugueux rau
    sharp tranchant scharf       | blunt émoussé stumpf
    sick malade krank            | healthy sain gesund
    raw cru roh                  | cooked cuit gekocht
    straight droit gerade        | crooked tordu krumm
    kind gentil nett             | mean méchant gemein
    sober sobre nüchtern         | drunk ivre betrunken
    lazy paresseux faul          | diligent assidu fleißig
    wise sage weise              | foolish insensé töricht
    modest modeste bescheiden    | proud fier stolz
    male mâle männlich           | female femelle weiblich
    inner intérieur innen        | outer extérieur außen
    polite poli höflich          | rude impoli grob
    ancient ancien antik         | modern moderne neuzeitlich
    natural naturel natürlich    | artificial artificiel künstlich
    known connu bekannt          | unknown inconnu unbekannt
""")
"""48 antonym pairs. The English word names the concept."""

VALIDATION_PAIRS: Final = ("early", "deep", "brave", "modest")
"""Pairs (by their first concept) whose antonymy is seen in English only; the choice of the seed may look at them."""

TEST_PAIRS: Final = ("fast", "full", "loud", "cheap", "raw", "polite")
"""Pairs whose antonymy is seen in English only and that no choice looks at."""

SYNONYMS: Final = _row_pairs("""
    big grand groß               | huge énorme riesig
    small petit klein            | tiny minuscule winzig
    happy heureux glücklich      | glad joyeux froh
    rich riche reich             | wealthy fortuné wohlhabend
    strong fort stark            | powerful puissant kräftig
    difficult difficile schwierig | tricky ardu knifflig
    safe sûr sicher              | secure protégé geschützt
    beautiful beau schön         | pretty joli hübsch
    brave courageux mutig        | bold vaillant tapfer
    dead mort tot                | deceased décédé verstorben
    sick malade krank            | ill souffrant unwohl
    wise sage weise              | clever avisé klug
    polite poli höflich          | courteous courtois zuvorkommend
    cold froid kalt              | chilly frisquet kühl
    dirty sale schmutzig         | filthy crasseux dreckig
    empty vide leer              | hollow creux hohl
    quiet silencieux leise       | hushed calme ruhig
    sad triste traurig           | gloomy morose betrübt
    fast rapide schnell          | quick véloce rasch
    new neuf neu                 | recent récent jüngst
""")
"""A concept and a synonym of it that is no antonym word."""

CATEGORIES: Final[dict[Row, tuple[Row, ...]]] = {
    ("bird", "oiseau", "Vogel"): _rows("""
        sparrow moineau Spatz
        owl hibou Eule
        duck canard Ente
        eagle aigle Adler"""),
    ("fish", "poisson", "Fisch"): _rows("""
        trout truite Forelle
        shark requin Hai
        eel anguille Aal
        salmon saumon Lachs"""),
    ("tree", "arbre", "Baum"): _rows("""
        oak chêne Eiche
        birch bouleau Birke
        willow saule Weide
        beech hêtre Buche"""),
    ("flower", "fleur", "Blume"): _rows("""
        tulip tulipe Tulpe
        daisy marguerite Gänseblümchen
        lily lis Lilie
        poppy coquelicot Mohn"""),
    ("colour", "couleur", "Farbe"): _rows("""
        red rouge rot
        blue bleu blau
        green vert grün
        yellow jaune gelb"""),
    ("tool", "outil", "Werkzeug"): _rows("""
        hammer marteau Hammer
        saw scie Säge
        drill perceuse Bohrer
        wrench clé Schraubenschlüssel"""),
    ("drink", "boisson", "Getränk"): _rows("""
        milk lait Milch
        water eau Wasser
        tea thé Tee
        beer bière Bier"""),
    ("vehicle", "véhicule", "Fahrzeug"): _rows("""
        car voiture Auto
        boat bateau Boot
        plane avion Flugzeug
        truck camion Lastwagen"""),
}
"""Category -> four of its members."""

NOUNS: Final = _row_pairs("""
    cat chat Katze               | cats chats Katzen
    dog chien Hund               | dogs chiens Hunde
    house maison Haus            | houses maisons Häuser
    book livre Buch              | books livres Bücher
    child enfant Kind            | children enfants Kinder
    chair chaise Stuhl           | chairs chaises Stühle
    friend ami Freund            | friends amis Freunde
    road route Straße            | roads routes Straßen
    king roi König               | kings rois Könige
    door porte Tür               | doors portes Türen
    egg œuf Ei                   | eggs œufs Eier
    star étoile Stern            | stars étoiles Sterne
    letter lettre Brief          | letters lettres Briefe
""")
"""Singular and plural."""

PLACES: Final = _rows("""
    gate portail Tor
    vault coffre Tresor
    bridge pont Brücke
    tower tour Turm
    cellar cave Keller
    garden jardin Garten
    library bibliothèque Bibliothek
    office bureau Büro
    kitchen cuisine Küche
    stable écurie Stall
    harbour port Hafen
    market marché Markt
""")
"""What one can ask leave to enter."""

COUNTRIES: Final = _countries("""
    France France Frankreich
    Paris Paris Paris
    Lyon Lyon Lyon
    Lille Lille Lille
    Nantes Nantes Nantes

    Germany Allemagne Deutschland
    Berlin Berlin Berlin
    Hamburg Hambourg Hamburg
    Munich Munich München
    Bonn Bonn Bonn

    Italy Italie Italien
    Rome Rome Rom
    Milan Milan Mailand
    Turin Turin Turin
    Bari Bari Bari

    Spain Espagne Spanien
    Madrid Madrid Madrid
    Seville Séville Sevilla
    Malaga Malaga Malaga
    Bilbao Bilbao Bilbao

    Poland Pologne Polen
    Warsaw Varsovie Warschau
    Gdansk Gdansk Danzig
    Poznan Poznan Posen
    Lodz Lodz Lodz

    Austria Autriche Österreich
    Vienna Vienne Wien
    Linz Linz Linz
    Graz Graz Graz
    Salzburg Salzbourg Salzburg

    Portugal Portugal Portugal
    Lisbon Lisbonne Lissabon
    Porto Porto Porto
    Braga Braga Braga
    Faro Faro Faro

    Russia Russie Russland
    Moscow Moscou Moskau
    Kazan Kazan Kasan
    Sochi Sotchi Sotschi
    Omsk Omsk Omsk

    Japan Japon Japan
    Tokyo Tokyo Tokio
    Osaka Osaka Osaka
    Kobe Kobe Kobe
    Nagoya Nagoya Nagoya

    Turkey Turquie Türkei
    Ankara Ankara Ankara
    Istanbul Istanbul Istanbul
    Izmir Izmir Izmir
    Bursa Bursa Bursa

    Greece Grèce Griechenland
    Athens Athènes Athen
    Patras Patras Patras
    Volos Volos Volos
    Larissa Larissa Larissa

    Norway Norvège Norwegen
    Oslo Oslo Oslo
    Bergen Bergen Bergen
    Trondheim Trondheim Trondheim
    Stavanger Stavanger Stavanger

    Sweden Suède Schweden
    Stockholm Stockholm Stockholm
    Uppsala Uppsala Uppsala
    Malmo Malmö Malmö
    Lund Lund Lund

    China Chine China
    Beijing Pékin Peking
    Shanghai Shanghai Schanghai
    Wuhan Wuhan Wuhan
    Harbin Harbin Harbin
""")
"""Country, its capital, three other cities."""

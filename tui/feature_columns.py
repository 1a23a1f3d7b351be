"""Which columns the features table can show, and which it shows at first.

In: what a run has. Out: `Column`s whose names are those of filters.
"""

from tui.columns import Column
from tui.data.runs import RunInfo

FIRST = ("star", "layer", "feature", "density", "max")


def all_columns(info: RunInfo) -> dict[str, Column]:
    """Return every column of a run's features, by name."""
    columns = [
        Column("star", "★", "star", 2, help="starred by a person"),
        Column("layer", "layer", "number", 6, help="layer"),
        Column("feature", "feature", "number", 8, help="number within the layer"),
        Column("label", "label", "label", 26, help="newest label"),
        Column("density", "density", "number", 9, help="active tokens / tokens"),
        Column("max", "max", "number", 7, help="largest activation"),
        Column("mean", "mean", "number", 7, help="mean activation over active tokens"),
        Column("sd", "sd", "number", 7, help="standard deviation over active tokens"),
        Column("active", "active", "number", 10, help="tokens with activation > 0"),
        Column("prompts", "prompts", "number", 9, help="prompts with an active token"),
        Column("encoder", "encoder", "number", 8, help="norm of the encoder row"),
        Column("decoder", "decoder", "number", 8, help="norm of the decoder row"),
    ]
    for language in info.languages:
        columns.append(
            Column(f"rate.{language}", f"rate.{language}", "rate", 14, help=f"share of {language} prompts in which it is active")
        )
    for language in info.languages:
        columns.append(Column(f"p.{language}", f"p.{language}", "rate", 14, 0.1, help=f"share of {language} tokens on which it is active"))
        columns.append(Column(f"mean.{language}", f"mean.{language}", "number", 9, help=f"mean activation over active {language} tokens"))
        columns.append(Column(f"max.{language}", f"max.{language}", "number", 9, help=f"largest activation in {language}"))
    seen: set[str] = set()
    for score in info.scores:
        name = score.score if score.score not in seen else f"{score.score}.{score.languages}"
        if name in seen or score.parameter_set not in ("default", info.scores[0].parameter_set):
            continue
        seen |= {name}
        title = f"{score.score}"
        columns.append(
            Column(
                name, title, "number", max(8, len(title) + 1), help=f"score {score.score} over {score.languages} ({score.parameter_set})"
            )
        )
        columns.append(Column(f"{name}.flag", f"{title}?", "flag", len(title) + 2, help=f"{score.score}: yes or no under its parameters"))
    columns += [
        Column("effect", "effect", "signed_bar", 19, 1.0, help="largest mean effect on the margin of changing this feature alone"),
        Column("promotes", "promotes", "tokens", 36, help="tokens whose logits it raises most"),
        Column("suppresses", "suppresses", "tokens", 36, help="tokens whose logits it lowers most"),
    ]
    return {column.name: column for column in columns}


def default_columns(info: RunInfo, wide: bool) -> tuple[str, ...]:
    """Return the columns shown before a person chooses."""
    rates = tuple(f"rate.{language}" for language in info.languages if language != "xx")[:4]
    if not wide:
        return ("star", "layer", "feature", "max", *rates[:2], "promotes")
    scores = tuple(dict.fromkeys(score.score for score in info.scores))
    lape = ("lape",) if "lape" in scores else scores[:1]
    return ("star", "layer", "feature", "label", "density", "max", *rates[:2], *lape, "effect", "promotes", *rates[2:])

"""Examples and scores: drawn as said, one language at a time; labels that are right, shuffled and empty come out in that order."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import atlas
from ingest.labels.examples import Example, ExampleConfig, LanguageExamples, context_examples, feature_examples, marked_places, wrong_places
from ingest.labels.judges import Label, RuleJudge, Shown, Verdict
from ingest.labels.mechanical import active_tokens, labels, profiles
from ingest.labels.rule import Rule, parse_rule
from ingest.labels.scoring import Judged, balanced, find_intruders, fuzzing_items, score_label
from ingest.labels.texts import Integers, Texts
from tests.ingest.labels import planted

CONFIG = ExampleConfig(per_decile=1)
JUDGE = RuleJudge()


class Planted:
    """The planted features, their tokens and their mechanical labels."""

    def __init__(self) -> None:
        made = planted.tables()
        self.texts = planted.texts(made)
        active, basis = active_tokens(made, self.texts)
        self.feature, self.at = active["feature"].to_numpy(), active["at"].to_numpy()
        self.value = active["activation"].to_numpy().astype(float)
        found = labels(profiles(active, self.texts, basis), made["feature"], planted.SET, planted.RUN, planted.NOW).to_pylist()
        self.rules = {row["feature"]: parse_rule(row["rule"]) for row in found}

    def examples(self, feature: int, config: ExampleConfig = CONFIG) -> dict[str, LanguageExamples]:
        own = self.feature == feature
        found = feature_examples(self.texts, self.at[own], self.value[own], (0, feature), config)
        return {each.language: each for each in found}

    def score(self, feature: int, rule: Rule | None, method: str) -> dict[str, float]:
        label = Label("l", 0, feature, "", rule)
        every = {language: score_label(label, examples, method, JUDGE, self.texts) for language, examples in self.examples(feature).items()}
        return {language: found.value for language, found in every.items() if found is not None}


@pytest.fixture(scope="module")
def world() -> Planted:
    return Planted()


def test_examples_fire_by_decile_or_are_silent_and_speak_one_language(world: Planted) -> None:
    for feature in range(6):
        for language, found in world.examples(feature, ExampleConfig(per_decile=2)).items():
            every = [*found.activating, *found.silent]
            assert {world.texts.languages[world.texts.language[example.span.start]] for example in every} == {language}
            assert len({example.item for example in every}) == len(every), "no text twice"
            assert len(found.silent) == len(found.activating)
            for example in every:
                tokens = [world.texts.vocabulary[token] for token in world.texts.token[example.span]]
                truth = [place > 0 and planted.fires(feature, token, language, last=place == 5) for place, token in enumerate(tokens)]
                assert [value > 0 for value in example.values] == truth
                assert example.activating == (example in found.activating)
            by_decile = sorted((example.quantile or 0, max(example.values)) for example in found.activating)
            assert [strength for _, strength in by_decile] == sorted(strength for _, strength in by_decile), "deciles are of strength"


def test_draws_are_the_same_again_and_another_seed_gives_others(world: Planted) -> None:
    first, same = world.examples(0), world.examples(0)
    other = world.examples(0, ExampleConfig(per_decile=1, seed=1))
    assert first == same
    assert first["en"].silent != other["en"].silent


@pytest.mark.parametrize("method", ["detection", "fuzzing"])
def test_right_shuffled_and_empty_labels_of_planted_features_come_out_in_that_order(world: Planted, method: str) -> None:
    for feature in range(4):
        right = world.score(feature, world.rules[feature], method)
        assert right == {"en": 1.0, "fr": 1.0}
        assert set(world.score(feature, None, method).values()) == {0.5}
        # The label of another concept is wrong about this one and, since a text holds one concept, never right.
        assert max(world.score(feature, world.rules[(feature + 1) % 4], method).values()) < 0.7


def test_right_shuffled_and_empty_labels_of_the_demo_come_out_in_that_order(demo_atlas: Path) -> None:
    """Mean balanced accuracy over features of one layer: mechanical labels, each other's labels, none."""
    texts, rows, rules = demo_layer(demo_atlas, layer=3, n=60)
    names = sorted(rules)
    shuffled = dict(zip(names, [rules[name] for name in (*names[1:], names[0])], strict=True))
    means: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, (at, value) in rows.items():
        for examples in feature_examples(texts, at, value, (3, name), CONFIG):
            for kind, rule in (("right", rules[name]), ("shuffled", shuffled[name]), ("empty", None)):
                for method in ("detection", "fuzzing"):
                    found = score_label(Label("l", 3, name, "", rule), examples, method, JUDGE, texts)
                    if found is not None:
                        means[method, kind].append(found.value)
    for method in ("detection", "fuzzing"):
        right, shuffled_mean, empty = (float(np.mean(means[method, kind])) for kind in ("right", "shuffled", "empty"))
        assert right > shuffled_mean + 0.05
        assert shuffled_mean > empty == 0.5


def demo_layer(folder: Path, layer: int, n: int) -> tuple[Texts, dict[int, tuple[Integers, np.ndarray]], dict[int, Rule]]:
    """Return tokens, active tokens and rules of the n features of a layer that fire on most prompts."""
    with atlas.open(folder) as reader:
        run = reader.sql("select run_id from run where name = 'bilingual'").rows()[0][0]

        def read(columns: str, table: str, where: str = "") -> pa.Table:
            return reader.sql(f"select {columns} from {table} where run_id = $run {where}", {"run": run}).arrow()

        texts = Texts.of_tables(read("* exclude (run_id)", "token"), read("prompt, language", "prompt"), "prompt")
        best = f"(select feature from feature where run_id = $run and layer = {layer} order by n_prompts_active desc, feature limit {n})"
        activation = read("* exclude (run_id)", "activation", f"and layer = {layer} and feature in {best}")
    active, basis = active_tokens({"activation": activation}, texts)
    feature, at, value = (active[name].to_numpy() for name in ("feature", "at", "activation"))
    rows = {int(name): (at[feature == name], value[feature == name].astype(float)) for name in np.unique(feature)}
    silent = pa.table({"layer": [], "feature": [], "n_tokens": []})
    made = labels(profiles(active, texts, basis), silent, "s", "r", planted.NOW).to_pylist()
    rules = {row["feature"]: rule for row in made if (rule := parse_rule(row["rule"])) is not None}
    return texts, rows, rules


def test_a_label_that_holds_in_one_language_only_is_caught(world: Planted) -> None:
    """A feature of a concept in both languages, called by its English word: as good as any label in English, as good as none in French."""
    for method in ("detection", "fuzzing"):
        label = Label("l", 0, 0, "the word hot", Rule(tokens=(" hot",)))
        by_language = {name: score_label(label, examples, method, JUDGE, world.texts) for name, examples in world.examples(0).items()}
        english, french = by_language["en"], by_language["fr"]
        assert english is not None
        assert french is not None
        assert (english.value, french.value) == (1.0, 0.5)
        assert english.ci_low > french.ci_high


def test_fuzzing_marks_as_many_silent_tokens_of_the_same_text(world: Planted) -> None:
    examples = world.examples(0)["en"]
    shown, truth = fuzzing_items(examples, world.texts, Label("l", 0, 0, ""), 0)
    assert sum(truth) * 2 == len(truth) == 2 * len(examples.activating)
    for each, right in zip(shown, truth, strict=True):
        assert each.marks is not None
        firing = [each.example.values[place] > 0 for place in each.marks]
        assert firing == [right] * len(marked_places(each.example))
        assert all(world.texts.position[each.example.span.start + place] > 0 for place in each.marks), "the sink is never marked"


def test_marks_leave_out_weak_activations() -> None:
    example = Example(0, 3, slice(0, 5), (0.0, 0.29, 0.3, 1.0, 0.0))
    assert marked_places(example) == (2, 3)


def test_marked_neighbours_share_one_pair_of_marks(world: Planted) -> None:
    example = Example(0, 1, world.texts.span(0), (0.0,) * 6)
    shown = Shown(example, world.texts, (1, 2, 5))
    words = [token.strip() for token in shown.tokens[1:]]
    assert shown.text == f"«{words[0]} {words[1]}» {words[2]} {words[3]} «{words[4]}»"
    assert Shown(example, world.texts).text == " ".join(words)


def test_wrong_marks_are_silent_tokens(world: Planted) -> None:
    example = Example(0, 1, world.texts.span(0), (0.0, 1.0, 0.0, 0.0, 1.0, 0.0))
    assert wrong_places(example, world.texts, 9, np.random.default_rng(0)) == (2, 3, 5)


def test_intruders_of_features_about_one_word_are_found_and_those_of_a_feature_about_nothing_are_not(world: Planted) -> None:
    for feature in range(6):
        for examples in world.examples(feature).values():
            found = find_intruders((0, feature), examples, JUDGE, world.texts)
            assert found is not None
            assert found.chance == 0.2
            assert found.value == 1.0
            assert all(
                [example.activating for example in trial.examples].index(False) == trial.intruder and len(trial.examples) == 5
                for trial in examples.trials
            )
    rng = np.random.default_rng(0)
    counted = np.flatnonzero(world.texts.counted)
    noise = np.sort(rng.choice(counted, 60, replace=False))
    values = [
        find_intruders((0, 9), examples, JUDGE, world.texts)
        for examples in feature_examples(world.texts, noise, rng.uniform(1, 2, 60), (0, 9), ExampleConfig(n_trials=20))
    ]
    assert len(values) == 2
    assert all(value is not None and value.value < 0.6 for value in values)


def test_intervals_and_areas_are_those_of_the_formulas() -> None:
    example = Example(0, 0, slice(0, 1), (0.0,))

    def judged(truth: bool, yes: bool, probability: float | None) -> Judged:
        return Judged(example, truth, Verdict(yes, probability))

    every = (
        [judged(True, True, 0.9)] * 8 + [judged(True, False, 0.4)] * 2 + [judged(False, True, 0.6)] * 1 + [judged(False, False, 0.4)] * 9
    )
    found = balanced("en", every)
    assert [found.sensitivity, found.specificity, found.value] == pytest.approx([0.8, 0.9, 0.85])
    # Wilson intervals by hand: 8/10 -> (.490, .943), 9/10 -> (.596, .982).
    assert found.ci_low == pytest.approx(0.85 - np.hypot(0.8 - 0.4901625, 0.9 - 0.5958500) / 2, abs=1e-6)
    assert found.ci_high == pytest.approx(0.85 + np.hypot(0.9433178 - 0.8, 0.9821237 - 0.9) / 2, abs=1e-6)
    pairs = [(a, b) for a in [0.9] * 8 + [0.4] * 2 for b in [0.6] + [0.4] * 9]
    assert found.auc == pytest.approx(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))
    assert balanced("en", [*every, judged(True, True, None)]).auc is None


def test_a_language_with_few_texts_is_not_scored(world: Planted) -> None:
    one_language = world.examples(4)
    assert set(one_language) == {"en"}, "the feature fires on no French text"
    assert world.examples(0, ExampleConfig(min_texts=200)) == {}
    assert world.examples(6) == {}, "a feature that fires on every text leaves no silent one"
    writing = world.examples(6, ExampleConfig(per_decile=1, writing=True, min_texts=1))
    assert set(writing) == {"en", "fr"}, "its label can be written all the same"
    assert writing["en"].silent == ()


def test_a_corpus_run_is_scored_on_its_contexts(world: Planted) -> None:
    rows = []
    for item in range(0, 120, 2):
        fires = bool(item % 4)
        values = [9.0, 0.0, 2.0, 0.0, 0.0, 0.0] if fires else [0.0] * 6
        kind = "quantile" if fires else "non_activating"
        window = {"window_start": 0, "window_end": 5, "window_activations": values}
        rows.append({"kind": kind, "item": item, "position": 2, "language": "en", "quantile": 9 if fires else None, **window})
    rows.append({**rows[1], "kind": "top", "quantile": None})
    (found,) = context_examples(pa.Table.from_pylist(rows), world.texts, (0, 0), ExampleConfig(per_decile=1))
    assert (len(found.activating), len(found.silent), found.language) == (10, 10, "en")
    assert {example.values for example in found.activating} == {(0.0, 0.0, 2.0, 0.0, 0.0, 0.0)}, "what happens at the sink counts nowhere"
    assert len(found.trials) == 10

"""What the thesis measured of layers, features and models: IoU, bridge features, baselines, the gate.

In: the folder's files, prompts, and the interventions read before. Out: rows of layer_score, feature_score, parameter_set,
reference_baseline and evaluation. The gate and the baselines were measured on the Instruct model in float32: every row says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atlas.errors import InputError
from atlas.ids import feature_name
from atlas.stats import benjamini_hochberg, intersection_union
from ingest.importers.common import read_json
from ingest.importers.thesis.files import Files, Rows, feature_of, read_csv
from ingest.importers.thesis.prompts import Prompts

Note = Callable[[str], None]
LANGUAGES = ("en", "fr")
IOU_FIELDS = {"n_en_features": "n_en", "n_fr_features": "n_fr", "n_intersection": "n_intersection", "n_union": "n_union"}
IOU_ROUNDING = 5.1e-5
"""The files round to four digits."""
IOU_SAID = {"active": "on any prompt of the language, all concepts together", "value": "rounded to 4 digits"}
BASELINE_FIELDS = {"prompt", "correct_answer", "incorrect_answer", "correct_log_prob", "incorrect_log_prob", "logprob_diff"}
BASELINE_METRICS = (
    "accuracy",
    "accuracy_sign",
    "mean_logprob_diff",
    "mean_logprob_diff_normalized",
    "median_logprob_diff_normalized",
    "std_logprob_diff_normalized",
    "n_success",
)
GATE_MODEL, GATE_DTYPE = "Qwen/Qwen3-4B-Instruct-2507", "float32"
GATE_LINE = re.compile(r"\[(PASS|FAIL)\] (\w+): (-?\d+\.?\d*) \(threshold >= (\d+\.?\d*)\)")
GATE_LANGUAGE = re.compile(r"\s*([A-Z]{2}): sign_acc=(\d+\.?\d*)\s+mean_norm_diff=(-?\d+\.?\d*)\s+n=(\d{1,9})\s+n_pass=(\d{1,9})")
PARAMETERS = {
    ("language_asymmetry", "value"): "|share of English prompts - share of French prompts|",
    ("language_profile", "value"): "-1 leans to en, 0 balanced, 1 leans to fr, null insufficient",
    ("language_profile", "leaning"): ">= 4 prompts in one language and <= 1 in the other",
    ("language_profile", "balanced"): ">= 4 prompts in both languages; anything else is insufficient_data",
    ("bridge", "value"): "the larger (worse) of the mean ablation effects of the two languages",
    ("bridge", "flag"): "mean ablation effect < 0 in both languages (sign alone)",
    ("bridge", "p_value"): "larger p of two one-sided t-tests over prompts (intersection-union); q_value: Benjamini-Hochberg",
}


def read_measures(files: Files, prompts: Prompts, interventions: Rows, note: Note, *, first_evaluation: int) -> Rows:
    """Read IoU, bridge, baseline and gate files, whichever are there."""
    rows: Rows = {"layer_score": [], "feature_score": [], "reference_baseline": [], "evaluation": [], "parameter_set": []}
    for path in files.of("iou"):
        _add_iou(rows, path, files)
    rows["feature_score"] += _bridges(files, prompts, interventions, note)
    for path in files.of("baselines"):
        _add_baseline(rows, path, files, prompts, note)
    if metrics := files.one("baseline_metrics"):
        _add_metrics(rows, metrics, files, prompts)
    if gate := files.one("gate"):
        _add_gate(rows, gate, files, prompts)
    for number, row in enumerate(rows["evaluation"], start=first_evaluation):
        row["evaluation"] = number
    if files.of("labels") or rows["feature_score"]:
        rows["parameter_set"] += [
            {"parameter_set": "thesis", "score": score, "parameter": parameter, "value": value}
            for (score, parameter), value in PARAMETERS.items()
        ]
    return rows


def _add_iou(rows: Rows, path: Path, files: Files) -> None:
    """Append value and counts of an IoU file; its positions are part of the score's name: iou, iou_content, iou_decision."""
    match = re.fullmatch(r"iou_per_layer(|_content|_decision)\.csv", path.name)
    if match is None:
        raise InputError(f"{files.name(path)}: expected iou_per_layer.csv, iou_per_layer_content.csv or iou_per_layer_decision.csv")
    positions = match.group(1)
    layers: set[int] = set()
    for record in read_csv(path, files.name(path), {"layer", "iou", *IOU_FIELDS}):
        layer = record.layer("layer")
        if layer in layers:
            raise record.fail("layer", "one line for each layer")
        layers.add(layer)
        common = {"layer": layer, "parameter_set": "thesis", "languages": "en+fr", "baseline": "same_concept"}
        counts = {field: record.integer(field, 0) for field in IOU_FIELDS}
        if counts["n_union"] != counts["n_en_features"] + counts["n_fr_features"] - counts["n_intersection"]:
            raise record.fail("n_union", "n_en_features + n_fr_features - n_intersection")
        expected = counts["n_intersection"] / counts["n_union"] if counts["n_union"] else 0.0
        if abs(record.number("iou") - expected) > IOU_ROUNDING:
            raise record.fail("iou", f"n_intersection / n_union = {expected:.4f}")
        rows["layer_score"].append(common | {"score": f"iou{positions}", "value": record.number("iou")})
        rows["layer_score"] += [
            common | {"score": f"{name}{positions}", "value": float(counts[field])} for field, name in IOU_FIELDS.items()
        ]
    if positions == "" and not any(row["score"] == "iou" for row in rows["parameter_set"]):
        rows["parameter_set"] += [
            {"parameter_set": "thesis", "score": "iou", "parameter": name, "value": said} for name, said in IOU_SAID.items()
        ]


def _bridges(files: Files, prompts: Prompts, interventions: Rows, note: Note) -> list[dict[str, Any]]:
    """Return the bridge score of every feature that was ablated alone: its worse mean effect, sign in both languages, and a test."""
    effects = _effects_by_feature(prompts, interventions)
    if not effects:
        for path in files.of("bridges"):
            note(f"{files.name(path)}: no ablation of single features stands beside it to check it against; left out")
        return []
    means = {feature: [float(np.mean(values)) for values in by_language] for feature, by_language in effects.items()}
    p_values = intersection_union(np.array([[_one_sided_t(values) for values in by_language] for by_language in effects.values()]))
    q_values = benjamini_hochberg(p_values)
    published = _published_bridges(files, means)
    if unknown := sorted(set(published) - set(means)):
        note(f"bridge_features.csv: {len(unknown)} features (e.g. {feature_name(*unknown[0])}) were not ablated alone; left out")
    rows = []
    for (feature, mean), p_value, q_value in zip(means.items(), p_values, q_values, strict=True):
        flag = all(value < 0 for value in mean)
        is_bridge = published.get(feature, flag)
        if is_bridge != flag:
            note(f"bridge_features.csv: {feature_name(*feature)} is_bridge is {is_bridge}, but its mean effects are {mean}")
        row = {"layer": feature[0], "feature": feature[1], "score": "bridge", "parameter_set": "thesis", "languages": "en+fr"}
        rows.append(
            row | {"value": max(mean), "flag": flag, "p_value": float(p_value), "q_value": float(q_value), "n": len(prompts.records)}
        )
    return rows


def _effects_by_feature(prompts: Prompts, interventions: Rows) -> dict[tuple[int, int], list[list[float]]]:
    """Return {(layer, feature): effects by language}, for zero ablations of one feature that have two prompts or more a language."""
    ablations = {row["intervention"] for row in interventions.get("intervention", []) if row["rule"] == "zero" and row["n_members"] == 1}
    features = {row["intervention"]: (row["layer"], row["feature"]) for row in interventions.get("intervention_member", [])}
    effects: dict[tuple[int, int], list[list[float]]] = {}
    for row in interventions.get("outcome", []):
        language = prompts.languages[row["prompt"]]
        if row["intervention"] in ablations and language in LANGUAGES:
            by_language = effects.setdefault(features[row["intervention"]], [[] for _ in LANGUAGES])
            by_language[LANGUAGES.index(language)].append(row["effect"])
    return {feature: values for feature, values in effects.items() if min(map(len, values)) >= 2}


def _one_sided_t(values: list[float]) -> float:
    """p of mean < 0 by Student's t; equal values give 0 or 1."""
    from scipy.stats import t

    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return float(t.cdf(mean / error, len(values) - 1)) if error else float(mean >= 0)


def _published_bridges(files: Files, means: dict[tuple[int, int], list[float]]) -> dict[tuple[int, int], bool]:
    path = files.one("bridges")
    if path is None:
        return {}
    published: dict[tuple[int, int], bool] = {}
    for record in read_csv(path, files.name(path), {"feature_id", "mean_effect_en", "mean_effect_fr", "is_bridge"}):
        feature = feature_of(record, "feature_id")
        if feature in published:
            raise record.fail("feature_id", "one line for each feature")
        for language, mean in zip(LANGUAGES, means.get(feature, ()), strict=False):
            if abs(record.number(f"mean_effect_{language}") - mean) > 1e-6:
                raise record.fail(f"mean_effect_{language}", f"{mean:.7g}, the mean of the ablation file")
        published[feature] = record.boolean("is_bridge")
    return published


def _add_baseline(rows: Rows, path: Path, files: Files, prompts: Prompts, note: Note) -> None:
    """Append a per-prompt baseline. These files do not name their model, so it stays null."""
    note(f"{files.name(path)}: names no model and no dtype; kept in reference_baseline, not in baseline")
    for index, record in enumerate(read_csv(path, files.name(path), BASELINE_FIELDS)):
        prompt = prompts.by_line(index, record.text("prompt"), record)
        rows["reference_baseline"].append(
            {
                "prompt": prompt,
                "source": files.name(path),
                "margin": record.number("logprob_diff"),
                "correct": record.number("logprob_diff") > 0,
                "logprob_correct": record.number("correct_log_prob"),
                "logprob_contrast": record.number("incorrect_log_prob"),
                "generated": record.values.get("generated"),
            }
        )


def _add_metrics(rows: Rows, path: Path, files: Files, prompts: Prompts) -> None:
    document = read_json(path, files.name(path))
    dtype = GATE_DTYPE if document.text("model") == GATE_MODEL else None
    behaviours = document.child("behaviours")
    for behaviour in behaviours.values:
        record = behaviours.child(behaviour)
        common = {
            "subject": behaviour,
            "behaviour": behaviour,
            "language": "all",
            "split": document.optional_text("split") or prompts.split,
            "n_prompts": record.integer("n_valid"),
            "model": document.text("model"),
            "dtype": dtype,
            "note": f"{path.name}; {record.optional_text('score_method') or 'unknown score'}; not the analysed model",
        }
        for name in BASELINE_METRICS:
            if record.has(name):
                rows["evaluation"].append(common | {"property": f"baseline_{name}", "value": record.number(name)})
        passed = record.boolean("passed")
        rows["evaluation"].append(common | {"property": "baseline_passed", "value": float(passed), "supports": passed})


def _add_gate(rows: Rows, path: Path, files: Files, prompts: Prompts) -> None:
    """Append the lines of gate_check.txt: each check with its threshold (x), each language's accuracy."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{files.name(path)}: expected UTF-8 text, got the byte {error.object[error.start]:#04x}") from error
    common = {
        "subject": prompts.behaviour,
        "behaviour": prompts.behaviour,
        "split": prompts.split,
        "model": GATE_MODEL,
        "dtype": GATE_DTYPE,
        "note": f"{path.name}; not the analysed model",
    }
    checks = GATE_LINE.findall(text)
    if not checks:
        raise InputError(f"{files.name(path)}:1: expected lines such as '[PASS] en_sign_acc: 1.0000 (threshold >= 0.9)', got none")
    for verdict, name, value, threshold in checks:
        language = name[:2] if name[:3] in ("en_", "fr_") else "all"
        measured = {"property": f"gate_{name}", "language": language, "x": float(threshold), "value": float(value)}
        rows["evaluation"].append(common | measured | {"supports": verdict == "PASS"})
    for language, accuracy, difference, n, n_pass in GATE_LANGUAGE.findall(text):
        per_language = common | {"language": language.lower(), "n_prompts": int(n)}
        for name, value in (("accuracy_sign", accuracy), ("mean_logprob_diff_normalized", difference), ("n_sign_correct", n_pass)):
            rows["evaluation"].append(per_language | {"property": f"gate_{name}", "value": float(value)})

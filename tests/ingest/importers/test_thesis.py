"""The thesis importer on bad and on changed input: what it refuses, what it says, and that equal content is one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

import queries
from atlas.errors import InputError, UsageError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.publish import publish
from atlas.shards import RunWriter
from ingest.importers import read

PROMPTS = [
    {"prompt": 'The opposite of "small" is', "correct_answer": " large", "incorrect_answer": " small", "word": "small", "language": "en"},
    {"prompt": 'Le contraire de "petit" est', "correct_answer": " grand", "incorrect_answer": " petit", "word": "petit", "language": "fr"},
]
MARGINS = "baseline_logit_diff,intervened_logit_diff,effect_size"
ABLATION_HEADER = f"experiment_type,prompt_idx,layer,feature_indices,{MARGINS},metadata,skipped_reason\n"
FEATURE = {
    "type": "feature", "n_prompts": 2, "frequency": 1.0, "mean_score_conditional": 3.0, "std_score": 0.5, "beta": -1.5,
}  # fmt: skip


def ablation(prompt: int = 0, text: str = PROMPTS[0]["prompt"], features: str = "[7]", after: str = "1.5", effect: str = "-0.5") -> str:
    metadata = repr({"prompt": text}).replace('"', '""')
    return f'ablation_zero,{prompt},12,"{features}",2.0,{after},{effect},"{metadata}",\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small run folder with one of most things."""
    made = tmp_path / "run"
    made.mkdir()
    lines = [json.dumps({**prompt, "concept_index": 0, "template_idx": 0}) for prompt in PROMPTS]
    (made / "prompts_train.jsonl").write_text("\n".join(lines) + "\n")
    (made / "intervention_ablation_antonyms.csv").write_text(ABLATION_HEADER + ablation())
    nodes = [{"id": "input", "type": "input"}, {"id": "output_correct", "type": "output"}]
    nodes += [{"id": f"L{layer}_F7", "layer": layer, "feature_idx": 7, **FEATURE} for layer in (12, 13)]
    edges = [
        {"source": "L12_F7", "target": "L13_F7", "weight": 0.25, "edge_type": "virtual_weight"},
        {"source": "L12_F7", "target": "output_correct", "weight": 3.0},
    ]
    (made / "attribution_graph_train.json").write_text(json.dumps({"nodes": nodes, "edges": edges, "metadata": {}}))
    return made


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    path = folder / name
    path.write_text(change(path.read_text()))


def test_an_activation_is_the_score_divided_by_the_slope(folder: Path) -> None:
    node = read("thesis", folder).tables["node"].to_pylist()[2]
    assert (node["mean_activation"], node["sd_activation"]) == (-2.0, pytest.approx(1 / 3))


def test_gradient_era_edges_are_star_edges_and_scaled_virtual_weights_keep_the_static_one(folder: Path) -> None:
    def rename(text: str) -> str:
        document = json.loads(text)
        document["edges"][0] |= {"edge_type": "attribution_approx_v1", "vw_static": 0.1}
        document["edges"][1]["edge_type"] = "output_attribution"
        return json.dumps(document)

    edit(folder, "attribution_graph_train.json", rename)
    edges = read("thesis", folder).tables["edge"].to_pylist()
    assert [(edge["kind"], edge["weight"], edge["static_weight"], edge["attribution"]) for edge in edges] == [
        ("virtual_weight", 0.25, 0.1, 0.25),
        ("star_total", 3.0, None, None),
    ]


def test_a_row_with_several_features_is_one_intervention(folder: Path) -> None:
    edit(folder, "intervention_ablation_antonyms.csv", lambda text: text + ablation(features="[7, 9, 11]"))
    tables = read("thesis", folder).tables
    assert tables["intervention"].column("n_members").to_pylist() == [1, 3]
    assert tables["intervention_member"].num_rows == 4
    assert tables["outcome"].num_rows == 2


def test_prompts_of_two_languages_share_the_concept_and_are_a_pair(folder: Path) -> None:
    tables = read("thesis", folder).tables
    assert tables["prompt"].column("concept").to_pylist() == ["small", "small"]
    assert tables["prompt_pair"].to_pylist() == [{"pair": 0, "kind": "translation", "prompt_a": 0, "prompt_b": 1}]


BAD: dict[str, tuple[str, Callable[[str], str], str]] = {
    "another version of the prompts": (
        "prompts_train.jsonl",
        lambda text: text.replace("opposite", "contrary"),
        r"intervention_ablation_antonyms\.csv:2: speaks of prompt 0 as .*prompts_train\.jsonl:1 is 'The contrary",
    ),
    "a prompt that is not JSON": ("prompts_train.jsonl", lambda text: text + "{oops\n", r"prompts_train\.jsonl:3: expected a JSON object"),
    "a prompt without answer": (
        "prompts_train.jsonl",
        lambda text: text.replace('"correct_answer": " grand", ', ""),
        r"prompts_train\.jsonl:2: field 'correct_answer': expected a text, got nothing",
    ),
    "a missing column": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace("effect_size", "effect"),
        r"csv:1: expected column 'effect_size'",
    ),
    "a cut file": ("intervention_ablation_antonyms.csv", lambda text: text[:-30], r"csv:2: expected 9 fields"),
    "a literal that is code": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace('"[7]"', '"__import__(1)"'),
        r"csv:2: field 'feature_indices': expected a Python list",
    ),
    "an effect that is not the difference": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace("-0.5", "0.5"),
        r"csv:2: field 'effect_size': expected intervened_logit_diff - baseline_logit_diff = -0.5",
    ),
    "not a number": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace("1.5", "nan"),
        r"csv:2: field 'intervened_logit_diff': expected a finite number, got 'nan'",
    ),
    "an unknown experiment": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace("ablation_zero", "surgery"),
        r"csv:2: field 'experiment_type': expected one of ablation",
    ),
    "the same row twice": (
        "intervention_ablation_antonyms.csv",
        lambda text: text + ablation(),
        r"csv:3: field 'prompt_idx': expected one row .*csv:2 has it already",
    ),
    "another baseline for the same prompt": (
        "intervention_ablation_antonyms.csv",
        lambda text: text + ablation(features="[8]").replace(",2.0,1.5,", ",2.25,1.75,"),
        r"csv:3: field 'baseline_logit_diff': expected 2.0",
    ),
    "a prompt index that is a list": (
        "prompts_train.jsonl",
        lambda text: text.replace('"template_idx": 0', '"template_idx": []', 1),
        r"prompts_train\.jsonl:1: field 'template_idx': expected a number, got \[\]",
    ),
    "a layer beyond every model": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace(",12,", ",70000,"),
        r"csv:2: field 'layer': expected a whole number from 0 to 32767, got '70000'",
    ),
    "a feature beyond every dictionary": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace('"[7]"', '"[9999999999]"'),
        r"csv:2: field 'feature_indices': expected a list of feature indices",
    ),
    "a feature twice in one edit": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace('"[7]"', '"[7, 7]"'),
        r"csv:2: field 'feature_indices': expected each feature once",
    ),
    "a column twice": (
        "intervention_ablation_antonyms.csv",
        lambda text: text.replace("skipped_reason", "layer"),
        r"csv:1: expected each column once, got 'layer' 2 times",
    ),
    "metadata of another type": (
        "attribution_graph_train.json",
        lambda text: text.replace('"metadata": {}', '"metadata": 7'),
        r"attribution_graph_train\.json: field 'metadata': expected an object, got 7",
    ),
    "an edge to nowhere": (
        "attribution_graph_train.json",
        lambda text: text.replace('"target": "L13_F7"', '"target": "L13_F8"'),
        r"edges\[0\]: field 'target': expected the id of a node of the graph, got 'L13_F8'",
    ),
    "an unknown kind of edge": (
        "attribution_graph_train.json",
        lambda text: text.replace('"virtual_weight"', '"wormhole"'),
        r"edges\[0\]: field 'edge_type': expected .*virtual_weight",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_with_file_line_field_and_expectation(folder: Path, case: str) -> None:
    name, change, message = BAD[case]
    edit(folder, name, change)
    with pytest.raises(InputError, match=message):
        read("thesis", folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_pairs": -1}, r"sufficiency_s2: field 'n_pairs': expected a whole number from 1"),
        ({"transfer_rate": 1.5}, r"sufficiency_s2: field 'transfer_rate': expected a share from 0 to 1"),
    ],
)
def test_measures_of_a_circuit_that_cannot_be_are_refused(folder: Path, change: dict[str, float], message: str) -> None:
    edges = [{"source": "L12_F7", "target": "output_correct", "edge_type": "star", "mean_delta_abs": 1.0}]
    circuit = {"feature_nodes": ["L12_F7"], "edges": edges, "n_edges": 1}
    measured = {"transfer_rate": 0.75, "mean_shift": 0.1, "n_pairs": 8}
    document = {"metadata": {}, "paths": [], "circuit": circuit, "sufficiency_s2": measured}
    (folder / "circuits_train.json").write_text(json.dumps(document))
    assert read("thesis", folder).tables["evaluation"].num_rows == 2
    (folder / "circuits_train.json").write_text(json.dumps(document | {"sufficiency_s2": measured | change}))
    with pytest.raises(InputError, match=message):
        read("thesis", folder)


def test_a_feature_whose_slope_is_zero_has_no_activation(folder: Path) -> None:
    edit(folder, "attribution_graph_train.json", lambda text: text.replace('"beta": -1.5', '"beta": 0.0', 1))
    nodes = read("thesis", folder).tables["node"].to_pylist()
    assert [(node["mean_activation"], node["n_prompts"]) for node in nodes[2:]] == [(None, 2), (-2.0, 2)]


def test_a_table_saved_by_a_spreadsheet_is_the_same_table(folder: Path) -> None:
    before = read("thesis", folder).tables
    for name in ("intervention_ablation_antonyms.csv", "prompts_train.jsonl", "attribution_graph_train.json"):
        path = folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    after = read("thesis", folder).tables
    assert {name: table.to_pylist() for name, table in before.items()} == {name: table.to_pylist() for name, table in after.items()}


@pytest.mark.parametrize("name", ["intervention_ablation_antonyms.csv", "prompts_train.jsonl", "attribution_graph_train.json"])
def test_bytes_that_are_not_utf8_are_answered_with_the_file(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as stream:
        stream.write(b"\xe9\n")
    with pytest.raises(InputError, match=rf"{name}:? ?\S*.*: expected UTF-8 text, got the byte 0xe9"):
        read("thesis", folder)


IOU = "layer,n_en_features,n_fr_features,n_intersection,n_union,iou\n10,228,259,140,347,0.4035\n"


def test_an_overlap_is_what_its_counts_say_once_a_layer(folder: Path) -> None:
    path = folder / "iou_per_layer.csv"
    path.write_text(IOU)
    assert read("thesis", folder).tables["layer_score"].num_rows == 5
    path.write_text(IOU[:-4])  # a file that is cut off within its last number
    with pytest.raises(InputError, match=r"iou_per_layer\.csv:2: field 'iou': expected n_intersection / n_union = 0\.4035, got '0\.4'"):
        read("thesis", folder)
    path.write_text(IOU + IOU.splitlines()[1] + "\n")
    with pytest.raises(InputError, match=r"iou_per_layer\.csv:3: field 'layer': expected one line for each layer"):
        read("thesis", folder)


def test_a_folder_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a prompts file"):
        read("thesis", tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read("thesis", tmp_path / "absent")
    with pytest.raises(UsageError, match="no importer for 'thesys'"):
        read("thesys", tmp_path)


def test_arrays_drop_fillers_and_refuse_another_shape(folder: Path) -> None:
    layer = folder / "layer_12"
    layer.mkdir()
    indices = np.array([[5, 9, 0, 1], [9, 0, 1, 2]], dtype=np.int64)
    values = np.array([[2.0, 1.0, 0.0, -0.0], [4.0, -0.0, 0.0, -1.0]], dtype=np.float32)
    np.save(layer / "antonyms_train_top_k_indices.npy", indices)
    np.save(layer / "antonyms_train_top_k_values.npy", values)
    activations = read("thesis", folder).tables["activation"].to_pylist()
    assert [(row["feature"], row["prompt"], row["activation"]) for row in activations] == [(5, 0, 2.0), (9, 0, 1.0), (9, 1, 4.0)]
    np.save(layer / "antonyms_train_top_k_values.npy", values[:1])
    with pytest.raises(InputError, match=r"expected \(2 prompts, K\)"):
        read("thesis", folder)


def test_equal_content_is_one_run_wherever_it_lies_and_changed_content_another(folder: Path, tmp_path: Path) -> None:
    first = read("thesis", folder)
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "again")
    assert run_id(read("thesis", moved).plan) == run_id(first.plan)
    edit(moved, "intervention_ablation_antonyms.csv", lambda text: text + ablation(features="[9]"))
    assert run_id(read("thesis", moved).plan) != run_id(first.plan)


def test_an_import_publishes_and_a_second_one_changes_nothing(folder: Path, tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "an.atlas")
    for _ in range(2):
        imported = read("thesis", folder)
        with RunWriter(atlas, imported.plan, run_id(imported.plan)) as writer:
            writer.commit("import", imported.tables)
            writer.finish(imported.run_row)
    result = publish(atlas.path)
    assert result.n_runs == 1
    with duckdb.connect(str(result.path), read_only=True) as connection:
        assert connection.execute("select kind::varchar, state::varchar from run").fetchall() == [("import", "complete")]
        assert connection.execute("select count(*) from outcome").fetchall() == [(1,)]


def test_the_whole_thesis_publishes_and_passes_every_audit(shared_data: Path, tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "an.atlas")
    for name in ("b1_v1", "mc", "grammar_agreement"):
        imported = read("thesis", shared_data / "thesis" / name)
        with RunWriter(atlas, imported.plan, run_id(imported.plan)) as writer:
            writer.commit("import", imported.tables)
            writer.finish(imported.run_row)
    result = publish(atlas.path, build=queries.build_steps(), audits=queries.audits())
    with duckdb.connect(str(result.path), read_only=True) as connection:
        assert connection.execute("select count(*) from run where kind = 'import'").fetchall() == [(3,)]
        assert connection.execute("select count(*) from activation").fetchall() == [(23861,)]

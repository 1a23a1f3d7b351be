"""The corpus pass against a dense computation of every document, its formats, and its resumption."""

import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from atlas.errors import InputError, ModelError
from atlas.schema import arrow_schema
from ingest.corpus import CorpusConfig, corpus_pass
from ingest.corpus_files import CorpusFiles, language_of_path
from ingest.model import LanguageModel
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import VOCABULARY, plain_copy, random_model, random_transcoders

LAYERS = (0, 1, 2)
N_FEATURES = 96
CONFIG = CorpusConfig(context_length=12, random_documents=4, n_top=6, n_reservoir=20, n_silent=3, pool=40, window=3, checkpoint_seconds=0)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"<bos>": 0, **{f"w{i}": i for i in range(1, VOCABULARY)}}, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    found = random_model()
    found.tokenizer = _tokenizer()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transcoders")
    random_transcoders(path)
    return path


@pytest.fixture(scope="module")
def transcoders(folder: Path) -> TranscoderSet:
    return TranscoderSet.open(folder)


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    generator = np.random.default_rng(5)
    return [
        ("en" if n % 3 else "fr", " ".join(f"w{t}" for t in generator.integers(1, VOCABULARY, generator.integers(3, 26))))
        for n in range(30)
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]) -> CorpusFiles:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("\n".join(json.dumps({"language": language, "text": text}) for language, text in texts))
    return CorpusFiles((path,))


@pytest.fixture(scope="module")
def tables(model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles) -> dict[str, pa.Table]:
    return corpus_pass(model, transcoders, files, CONFIG)


@pytest.fixture(scope="module")
def pieces(texts: list[tuple[str, str]]) -> list[tuple[str, list[int]]]:
    """(language, ids) of each piece of at most 12 tokens, by hand."""
    found = []
    for language, text in texts:
        ids = [int(word[1:]) for word in text.split()]
        found += [(language, [0, *ids[start : start + 11]]) for start in range(0, len(ids), 11)]
    return found


Dense = dict[int, list[np.ndarray]]


@pytest.fixture(scope="module")
def dense(model: LanguageModel, folder: Path, pieces: list[tuple[str, list[int]]]) -> Dense:
    """layer -> document -> activations (T, F)."""
    plain = plain_copy(model)
    seen: dict[int, Tensor] = {}
    for layer, block in enumerate(plain.model.layers):
        block.mlp.register_forward_hook(lambda m, i, o, k=layer: seen.update({k: i[0][0]}))
    found: Dense = {layer: [] for layer in LAYERS}
    weights = {layer: load_file(folder / f"layer_{layer}.safetensors") for layer in LAYERS}
    for _, ids in pieces:
        plain(torch.tensor([ids]))
        for layer, w in weights.items():
            found[layer].append(torch.relu(seen[layer] @ w["W_enc"].T + w["b_enc"]).numpy())
    return found


def test_tables_fit_the_schema(tables: dict[str, pa.Table]) -> None:
    assert set(tables) == {
        "document", "token", "feature", "feature_language", "histogram", "context", "transcoder_quality",
    }  # fmt: skip
    for name, table in tables.items():
        schema = arrow_schema(name)
        for field in table.schema:
            assert field.type == schema.field(field.name).type, (name, field.name)


def test_documents_are_pieces_of_the_texts_and_random_ones(tables: dict[str, pa.Table], pieces: list[tuple[str, list[int]]]) -> None:
    rows = tables["document"].to_pylist()
    assert [row["language"] for row in rows] == [language for language, _ in pieces] + ["xx"] * 4
    assert [row["n_tokens"] for row in rows] == [len(ids) for _, ids in pieces] + [12] * 4
    assert rows[0]["source"].startswith("corpus.jsonl#0")
    assert len({row["source"] for row in rows}) == len(rows)


def test_counts_equal_a_dense_computation(tables: dict[str, pa.Table], dense: Dense, pieces: list[tuple[str, list[int]]]) -> None:
    rows = {(r["layer"], r["feature"], r["language"]): r for r in tables["feature_language"].to_pylist()}
    features = {(r["layer"], r["feature"]): r for r in tables["feature"].to_pylist()}
    for layer in LAYERS:
        for feature in range(N_FEATURES):
            real = np.concatenate([values[1:, feature] for values in dense[layer]])
            row = features[layer, feature]
            assert row["n_tokens"] == len(real)
            assert row["n_active"] == (real > 0).sum()
            assert row["n_prompts_active"] == sum(bool((v[1:, feature] > 0).any()) for v in dense[layer])
            for language in ("en", "fr"):
                own = [v[1:, feature] for v, (name, _) in zip(dense[layer], pieces, strict=True) if name == language]
                column = np.concatenate(own)
                found = rows.get((layer, feature, language))
                if found is None:
                    assert not column.any()
                    continue
                assert (found["n_tokens"], found["n_prompts"]) == (len(column), len(own))
                assert found["n_active"] == (column > 0).sum()
                assert found["n_prompts_active"] == sum(bool((v > 0).any()) for v in own)
                assert abs(found["sum_activation"] - column.sum()) < 1e-3
                assert abs(found["max_activation"] - column.max()) < 1e-4


def test_top_contexts_are_the_largest_values_with_their_windows(
    tables: dict[str, pa.Table], dense: Dense, pieces: list[tuple[str, list[int]]]
) -> None:
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in tables["context"].to_pylist():
        if row["kind"] == "top":
            found[row["layer"], row["feature"]].append(row)
    for layer in LAYERS:
        for feature in range(0, N_FEATURES, 3):
            everything = np.concatenate([values[1:, feature] for values in dense[layer]])
            best = np.sort(everything[everything > 0])[::-1][:6]
            rows = found[layer, feature]
            assert [row["rank"] for row in rows] == list(range(len(best)))
            np.testing.assert_allclose([row["activation"] for row in rows], best, atol=1e-4)
            for row in rows:
                own = dense[layer][row["item"]][:, feature]
                assert row["language"] == pieces[row["item"]][0]
                assert row["window_start"] == max(row["position"] - 3, 0)
                assert row["window_end"] == min(row["position"] + 3, len(own) - 1)
                expected = own[row["window_start"] : row["window_end"] + 1]
                np.testing.assert_allclose(row["window_activations"], expected, atol=1e-4)


def test_other_contexts_are_active_or_silent_as_they_say(tables: dict[str, pa.Table], dense: Dense) -> None:
    kinds: dict[str, int] = defaultdict(int)
    for row in tables["context"].to_pylist():
        kinds[row["kind"]] += 1
        own = dense[row["layer"]][row["item"]][:, row["feature"]]
        assert row["position"] > 0
        assert abs(own[row["position"]] - row["activation"]) < 1e-4
        assert (row["activation"] == 0) == (row["kind"] == "non_activating")
        expected = own[row["window_start"] : row["window_end"] + 1]
        np.testing.assert_allclose(row["window_activations"], expected, atol=1e-4)
    assert min(kinds[kind] for kind in ("top", "quantile", "non_activating")) > 500


def test_deciles_rank_the_sampled_values(tables: dict[str, pa.Table], dense: Dense) -> None:
    rows = [row for row in tables["context"].to_pylist() if row["kind"] == "quantile"]
    assert {row["quantile"] for row in rows} == set(range(10))
    by_feature: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_feature[row["layer"], row["feature"]].append(row)
    for (layer, feature), own in by_feature.items():
        assert [row["rank"] for row in own] == list(range(len(own)))
        values = [row["activation"] for row in own]
        assert values == sorted(values, reverse=True)
        everything = np.concatenate([v[1:, feature] for v in dense[layer]])
        positive = everything[everything > 0]
        if len(positive) <= 20:  # the reservoir holds all of them: the decile is exact
            for row in own:
                first, last = ((positive > row["activation"] + shift).sum() for shift in (1e-5, -1e-5))
                assert row["quantile"] in {9 - (rank * 10) // len(positive) for rank in range(first, last)}


def test_reservoirs_sample_evenly_over_documents(
    model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles, dense: Dense
) -> None:
    """Many seeds draw the active tokens of a feature about equally often: a chi-squared test at 1 in 10,000."""
    feature = int(np.argmax([sum((v[1:, f] > 0).sum() for v in dense[0]) for f in range(N_FEATURES)]))
    counts: dict[tuple[int, int], int] = defaultdict(int)
    n_draws = 0
    for seed in range(25):
        config = replace(CONFIG, layers=(0,), seed=seed, n_reservoir=20, per_decile=2, random_documents=0, quality=False)
        for row in corpus_pass(model, transcoders, files, config)["context"].to_pylist():
            if row["kind"] == "quantile" and row["feature"] == feature:
                counts[row["item"], row["position"]] += 1
                n_draws += 1
    active = [(d, int(p) + 1) for d, v in enumerate(dense[0]) for p in np.flatnonzero(v[1:, feature] > 0)]
    expected = n_draws / len(active)
    chi_squared = sum((counts[name] - expected) ** 2 / expected for name in active)
    # Draws without replacement vary less than the multinomial, so the bound of chi-squared holds.
    assert chi_squared < len(active) + 4 * (2 * len(active)) ** 0.5
    assert len(counts) > 0.9 * len(active)


def test_tokens_are_those_that_windows_show(tables: dict[str, pa.Table], pieces: list[tuple[str, list[int]]]) -> None:
    shown = {
        (row["item"], position) for row in tables["context"].to_pylist() for position in range(row["window_start"], row["window_end"] + 1)
    }
    rows = tables["token"].to_pylist()
    assert {(row["item"], row["position"]) for row in rows} == shown
    assert len(rows) == len(shown)
    for row in rows:
        token = pieces[row["item"]][1][row["position"]]
        assert row["token_id"] == token
        assert row["token"] == ("<bos>" if token == 0 else f"w{token}")
        assert row["role"] == ("sink" if row["position"] == 0 else "other")


def test_random_tokens_are_counted_apart(tables: dict[str, pa.Table]) -> None:
    rows = [row for row in tables["feature_language"].to_pylist() if row["language"] == "xx"]
    assert {row["n_tokens"] for row in rows} == {4 * 11}
    assert any(row["n_active"] for row in rows)
    assert "xx" not in tables["context"]["language"].to_pylist()
    quality = {(row["layer"], row["language"]): row for row in tables["transcoder_quality"].to_pylist()}
    assert quality[1, "xx"]["n_tokens"] == 44
    assert quality[1, "en"]["fvu"] > 0


def _close(a: dict[str, pa.Table], b: dict[str, pa.Table]) -> None:
    """Counts, pointers and tokens are equal; values up to rounding."""
    for name in a:
        for column in a[name].schema.names:
            x, y = a[name][column].combine_chunks(), b[name][column].combine_chunks()
            if pa.types.is_list(x.type):
                x, y = x.flatten(), y.flatten()
            if pa.types.is_floating(x.type):
                np.testing.assert_allclose(
                    x.fill_null(-1).to_numpy(), y.fill_null(-1).to_numpy(), rtol=1e-4, atol=1e-4, err_msg=f"{name}.{column}"
                )
            else:
                assert x.equals(y), (name, column)


@pytest.fixture(scope="module")
def doubles(folder: Path, files: CorpusFiles) -> tuple[LanguageModel, TranscoderSet, dict[str, pa.Table]]:
    model = random_model(dtype=torch.float64)
    model.tokenizer = _tokenizer()
    transcoders = TranscoderSet.open(folder, dtype="float64")
    return model, transcoders, corpus_pass(model, transcoders, files, CONFIG)


@pytest.mark.parametrize(
    "portions",
    [
        {"batch_size": 1, "chunk_tokens": 1},
        {"batch_size": 5, "chunk_tokens": 70},
        {"max_elements": 5 * N_FEATURES, "chunk_tokens": 10_000},
    ],
    ids=["a document a chunk", "small chunks", "small blocks"],
)
def test_results_do_not_depend_on_portions(
    portions: dict[str, int], doubles: tuple[LanguageModel, TranscoderSet, dict[str, pa.Table]], files: CorpusFiles
) -> None:
    """In double precision, where equal tokens after equal prefixes come out equal in every batch."""
    model, transcoders, whole = doubles
    _close(corpus_pass(model, transcoders, files, replace(CONFIG, **portions)), whole)  # type: ignore[arg-type]


class _Killed(Exception):
    pass


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_killed_pass_goes_on_and_gives_equal_tables(
    chunks: int, model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles, tmp_path: Path
) -> None:
    config = replace(CONFIG, chunk_tokens=60)
    whole = corpus_pass(model, transcoders, files, config)
    done: list[int] = []

    def kill(tokens: int, _: int) -> None:
        done.append(tokens)
        if len(done) == chunks:
            raise _Killed

    with pytest.raises(_Killed):
        corpus_pass(model, transcoders, files, config, state=tmp_path / "state", progress=kill)
    with (tmp_path / "state" / "tokens.bin").open("ab") as file:
        file.write(b"\x01\x02\x03")  # a torn write after the checkpoint
    (tmp_path / "state" / "chunk-99999999.tmp").mkdir()  # a checkpoint that was never completed
    again: list[int] = []
    tables = corpus_pass(model, transcoders, files, config, state=tmp_path / "state", progress=lambda tokens, _: again.append(tokens))
    assert again[0] > done[-1]
    for name, table in whole.items():
        assert table.equals(tables[name]), name


def test_a_state_of_another_pass_is_refused(model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles, tmp_path: Path) -> None:
    corpus_pass(model, transcoders, files, replace(CONFIG, chunk_tokens=60), state=tmp_path)
    with pytest.raises(InputError, match="other settings, files or weights"):
        corpus_pass(model, transcoders, files, replace(CONFIG, n_top=7), state=tmp_path)


def test_reading_stops_at_max_tokens(model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles) -> None:
    found = corpus_pass(model, transcoders, files, replace(CONFIG, max_tokens=50, random_documents=0))
    n_tokens = sum(found["document"]["n_tokens"].to_pylist())
    assert 50 <= n_tokens < 50 + 30
    assert set(found["document"]["language"].to_pylist()) <= {"en", "fr"}


def test_only_wanted_languages_are_read(model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles) -> None:
    found = corpus_pass(model, transcoders, files, replace(CONFIG, languages=("fr",)))
    assert set(found["document"]["language"].to_pylist()) == {"fr", "xx"}
    with pytest.raises(InputError, match="no document in de"):
        corpus_pass(model, transcoders, files, replace(CONFIG, languages=("de",)))


def test_nan_names_the_document(transcoders: TranscoderSet, files: CorpusFiles) -> None:
    model = random_model()
    model.tokenizer = _tokenizer()
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[7] = float("nan")
    with pytest.raises(ModelError, match=r"document corpus\.jsonl#\d+.*layer 0"):
        corpus_pass(model, transcoders, files, CONFIG)


def _parquet(path: Path, rows: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path / "part.parquet", row_group_size=4)


def _jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    with gzip.open(path / "part.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _arrow(path: Path, rows: list[dict[str, str]]) -> None:
    """As `Dataset.save_to_disk` writes: Arrow streams beside their description, and caches that are no data."""
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path / "data-00000-of-00001.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    (path / "dataset_info.json").write_text("{}")
    (path / "state.json").write_text("{}")
    (path / "cache-1234.arrow").write_bytes(b"")


def _text(path: Path, rows: list[dict[str, str]]) -> None:
    for language in ("en", "fr"):
        own = [row["text"] for row in rows if row["language"] == language]
        (path / f"part.{language}.txt").write_text("\n\n".join(own), encoding="utf-8")


@pytest.mark.parametrize("write", [_parquet, _jsonl, _arrow, _text])
def test_formats_hold_the_same_documents(
    write: Callable[[Path, list[dict[str, str]]], None], tmp_path: Path, texts: list[tuple[str, str]]
) -> None:
    write(tmp_path, [{"language": language, "text": text} for language, text in texts])
    files = CorpusFiles((tmp_path,))
    assert files.languages() == ("en", "fr")
    found = [(document.language, document.text) for document in files.documents()]
    assert sorted(found) == sorted(texts)
    assert [d.text for d in files.documents(skip=4)] == [text for _, text in found[4:]]


def test_paths_tell_languages() -> None:
    assert language_of_path(Path("corpus/news.fr.txt")) == "fr"
    assert language_of_path(Path("corpus/de/news.jsonl.gz")) == "de"
    assert language_of_path(Path("corpus-of-mine/News1.txt")) is None


def test_unreadable_corpora_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        CorpusFiles((tmp_path / "none.jsonl",)).files()
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(InputError, match="unknown kind"):
        CorpusFiles((tmp_path / "a.csv",)).files()
    with pytest.raises(InputError, match="holds no corpus file"):
        CorpusFiles((tmp_path,)).files()
    pq.write_table(pa.table({"content": ["a"], "language": ["en"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no column 'text'; it has content, language"):
        list(CorpusFiles((tmp_path / "b.parquet",)).documents())
    assert [d.text for d in CorpusFiles((tmp_path / "b.parquet",), text_column="content").documents()] == ["a"]
    (tmp_path / "Unnamed1.jsonl").write_text('{"text": "a"}\n{"text"')
    with pytest.raises(InputError, match="nothing tells the language"):
        list(CorpusFiles((tmp_path / "Unnamed1.jsonl",)).documents())
    with pytest.raises(InputError, match=r"line 2 of Unnamed1\.jsonl"):
        list(CorpusFiles((tmp_path / "Unnamed1.jsonl",), language="en").documents())

"""Typed mirrors of schema.sql: one SQLModel class a table, one Literal an enum, one Arrow schema a table.

schema.sql is the truth; a test compares names, order, types, keys and comments. The classes serve typed rows and the SQLite
catalogue (whose tables are created from them); bulk rows travel as Arrow tables with `arrow_schema(table)`. Where schema.sql
leaves a key to a comment, `key (…)`, the class has that key.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, SmallInteger, String
from sqlalchemy.orm import declared_attr
from sqlalchemy.types import JSON, REAL
from sqlmodel import Field, SQLModel

from atlas.errors import UsageError
from atlas.settings import schema_sql_path

RunKind = Literal["ingest", "import", "publish", "label", "compare", "ask"]
RunState = Literal["running", "complete", "failed"]
ComputationType = Literal["hidden_state_transfer", "candidate_set_filtering", "abstract_mapping", "gated_decision"]
Split = Literal["train", "validation", "test"]
TokenSource = Literal["prompt", "document"]
TokenRole = Literal["sink", "content", "operator", "quote", "template", "decision", "padding", "other"]
PairKind = Literal["translation", "minimal"]
AnswerRole = Literal["correct", "contrast", "distractor", "partner", "source_language"]
ActivationFunction = Literal["relu", "jump_relu", "topk"]
GraphKind = Literal["prompt_set", "attribution"]
NodeKind = Literal["feature", "error", "token", "logit", "input", "output"]
EdgeKind = Literal["star_total", "star_direct", "virtual_weight", "attribution", "causal"]
ContextKind = Literal["top", "quantile", "non_activating"]
NeighbourKind = Literal["decoder_cosine", "coactivation"]
Rule = Literal[
    "no_op", "zero", "mean", "resample", "scale", "add", "patch", "swap", "random_direction", "error_only", "whole_mlp", "clamp", "mixed"
]
Mode = Literal["free", "frozen_attention", "direct", "constrained_layers"]
PositionRule = Literal["decision", "content", "all", "explicit"]
ControlKind = Literal[
    "matched_random",
    "matched_random_rescaled",
    "same_norm_direction",
    "error_only",
    "whole_mlp",
    "no_op",
    "other_concept",
    "antonym_partner",
    "split_half",
]
MemberKind = Literal["feature", "edge"]
LabelMethod = Literal["manual", "mechanical", "imported", "language_model"]
Verdict = Literal["reproduced", "contradicted", "not_reproducible"]

SQL_TYPES: dict[str, Any] = {
    "varchar": String,
    "smallint": SmallInteger,
    "integer": Integer,
    "bigint": BigInteger,
    "float": REAL,
    "double": Double,
    "boolean": Boolean,
    "timestamp": DateTime,
}
ARROW_TYPES: dict[str, pa.DataType] = {
    "varchar": pa.string(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}


def column(duckdb_type: str, comment: str, *, key: bool = False, null: bool = False, references: str | None = None) -> Any:
    """Declare a column with the type name and the comment of schema.sql.

    Enums are strings here: a Literal says which, and the database refuses others. Lists become JSON in SQLite.
    """
    sql_type = JSON if duckdb_type.endswith("[]") else SQL_TYPES.get(duckdb_type, String)
    keywords: dict[str, Any] = {} if references is None else {"foreign_key": references}
    return Field(
        default=None if null else ...,
        primary_key=key,
        nullable=null,
        sa_type=sql_type,
        description=comment,
        sa_column_kwargs={"comment": comment, "info": {"duckdb": duckdb_type}},
        **keywords,
    )


class Row(SQLModel):
    """A row of schema.sql; the class name in words joined by underscores is the table's name."""

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return table_name(cls.__name__)


def table_name(class_name: str) -> str:
    """Turn `FeatureLanguage` into `feature_language`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


class Atlas(Row, table=True):
    """One row: what this published file is."""

    __table_args__ = {"comment": "one row: what this published file is; key (manifest)"}
    format_version: int = column("integer", "version of schema.sql and of the folder layout; a reader refuses another one")
    manifest: int = column("integer", "number of the manifest this file was built from", key=True)
    manifest_hash: str = column("varchar", "SHA-256 of that manifest")
    code_version: str = column("varchar", "version of the package that published")
    published_at: datetime = column("timestamp", "naive UTC")
    activations_inline: bool = column("boolean", "true: activation is a table in this file; false: a view over the shards of the folder")


class Model(Row, table=True):
    """One row per language model."""

    __table_args__ = {"comment": "one row per language model"}
    model_id: str = column("varchar", "first 16 hex digits of the SHA-256 over config and weights hashes", key=True)
    name: str = column("varchar", "hub name or the directory's name")
    source: str = column("varchar", "where it was loaded from, without local path: hub id, `embedded:bilingual`, or directory name")
    revision: str | None = column("varchar", "hub revision, where known", null=True)
    architecture: str = column("varchar", "transformers class, e.g. Qwen3ForCausalLM")
    dtype: str = column("varchar", "dtype the analysis ran in")
    n_layers: int = column("smallint", "number of decoder layers")
    d_model: int = column("integer", "width of the residual stream")
    vocab_size: int = column("integer", "rows of the unembedding")
    n_parameters: int | None = column("bigint", "number of parameters", null=True)
    config_hash: str | None = column("varchar", "SHA-256 of config.json", null=True)
    weights_hash: str | None = column("varchar", "SHA-256 over the weight files", null=True)
    tokenizer_hash: str | None = column("varchar", "SHA-256 of the tokenizer files", null=True)


class Transcoder(Row, table=True):
    """One row per layer of a transcoder set."""

    __table_args__ = {"comment": "one row per layer of a transcoder set"}
    transcoder_set: str = column("varchar", "name of the set; for published sets the one Neuronpedia uses", key=True)
    layer: int = column("smallint", "layer whose MLP it replaces", key=True)
    model_id: str | None = column("varchar", "model it was trained on, where known", null=True, references="model.model_id")
    source: str = column("varchar", "hub id, `embedded:bilingual`, or directory name")
    revision: str | None = column("varchar", "hub revision, where known", null=True)
    file_hash: str | None = column("varchar", "SHA-256 of the layer's file", null=True)
    d_transcoder: int = column("integer", "number of features")
    activation: ActivationFunction = column("activation_function", "nonlinearity after the encoder")
    dtype: str = column("varchar", "dtype on disk")
    has_skip: bool = column("boolean", "whether an affine skip connection is part of it")
    hook_in: str = column("varchar", "hook point it reads, e.g. mlp_in")
    hook_out: str = column("varchar", "hook point it predicts, e.g. mlp_out")
    gain_folded: bool = column("boolean", "whether the norm's gain is already in the encoder")
    neuronpedia: str | None = column("varchar", "Neuronpedia source id, e.g. qwen3-4b/20-transcoder-hp", null=True)


class Run(Row, table=True):
    """One row per ingest, import or publish that the manifest shows."""

    __table_args__ = {"comment": "one row per ingest, import or publish that the manifest shows"}
    run_id: str = column("varchar", "first 16 hex digits of the SHA-256 of the canonical plan and input hashes", key=True)
    kind: RunKind = column("run_kind", "what wrote it")
    name: str = column("varchar", "name given in the plan")
    state: RunState = column("run_state", "complete, or how it stopped")
    attempt: int = column("smallint", "which attempt is visible; earlier ones stay on disk until gc")
    model_id: str | None = column("varchar", "analysed model", null=True, references="model.model_id")
    transcoder_set: str | None = column("varchar", "set of dictionaries", null=True)
    plan: str = column("varchar", "canonical JSON of the plan")
    plan_hash: str = column("varchar", "SHA-256 of the plan")
    prompt_set_hash: str | None = column("varchar", "SHA-256 over all prompts and answers", null=True)
    seed: int | None = column("integer", "base seed", null=True)
    code_version: str = column("varchar", "package version that wrote it")
    method: str | None = column("varchar", "free text: how an imported run was made, with what is known to be unsound", null=True)
    started_at: datetime | None = column("timestamp", "naive UTC", null=True)
    finished_at: datetime | None = column("timestamp", "naive UTC", null=True)
    machine: str | None = column("varchar", "processor, memory, device", null=True)
    seconds: float | None = column("double", "wall-clock seconds", null=True)


class RunTable(Row, table=True):
    """One row per run and table: what was written."""

    __table_args__ = {"comment": "one row per run and table: what was written"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    table_name: str = column("varchar", "table of this schema", key=True)
    n_shards: int = column("integer", "number of shards")
    n_rows: int = column("bigint", "number of rows")
    n_bytes: int = column("bigint", "bytes of Parquet")


class TranscoderQuality(Row, table=True):
    """One row per run, layer and language: how well the dictionary stands for the MLP."""

    __table_args__ = {"comment": "one row per run, layer and language: how well the dictionary stands for the MLP"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    layer: int = column("smallint", "layer; -1 is all ingested layers replaced at once", key=True)
    language: str = column("varchar", "language of the tokens", key=True)
    n_tokens: int = column("bigint", "tokens measured, sinks left out")
    l0: float | None = column("double", "active features a token (mean)", null=True)
    fvu: float | None = column("double", "fraction of variance of mlp_out unexplained (0 is perfect)", null=True)
    n_dead: int | None = column("integer", "features never active on these tokens", null=True)
    kl: float | None = column("double", "KL(model || model with this MLP replaced), nats a decision position", null=True)
    top1_agreement: float | None = column("double", "share of decision positions whose top token stays", null=True)


class Behaviour(Row, table=True):
    """One row per run and behaviour."""

    __table_args__ = {"comment": "one row per run and behaviour"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    behaviour: str = column("varchar", "name, e.g. antonyms", key=True)
    title: str = column("varchar", "one sentence")
    computation_type: ComputationType | None = column("computation_type", "the type it was written to exercise", null=True)
    languages: list[str] = column("varchar[]", "languages with prompts")
    n_prompts: int = column("integer", "number of prompts")
    prompt_set_hash: str = column("varchar", "SHA-256 over prompts and answers")
    gate: float | None = column("double", "accuracy below which the plan refuses to go on, by language", null=True)
    definition: str | None = column("varchar", "the behaviour's TOML text", null=True)


class Prompt(Row, table=True):
    """One row per run and prompt."""

    __table_args__ = {"comment": "one row per run and prompt"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    prompt: int = column("integer", "ordinal within the run, from 0", key=True)
    behaviour: str = column("varchar", "behaviour")
    prompt_hash: str = column("varchar", "SHA-256 (16 hex) of language, text and answers: equal across runs")
    language: str = column("varchar", "language")
    concept: str = column("varchar", "concept asked about")
    cluster: str | None = column("varchar", "unit that statistics resample, e.g. an antonym pair; null: the concept itself", null=True)
    template: str = column("varchar", "template's name")
    split: Split = column("split", "train is used for discovery, test by nothing before evaluation")
    held_out: str | None = column("varchar", "concept, template, both, or null", null=True)
    text: str = column("varchar", "the prompt as given to the tokenizer")
    n_tokens: int | None = column("smallint", "tokens, with the prepended one; null where an import does not say", null=True)
    operand: str | None = column("varchar", "the word the answer depends on", null=True)
    variant: str | None = column("varchar", "for minimal pairs: allow or refuse, singular or plural", null=True)


class PromptPair(Row, table=True):
    """One row per pair of prompts that differ in one respect."""

    __table_args__ = {"comment": "one row per pair of prompts that differ in one respect"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    pair: int = column("integer", "ordinal within the run", key=True)
    kind: PairKind = column("pair_kind", "what the two prompts differ in")
    prompt_a: int = column("integer", "first prompt")
    prompt_b: int = column("integer", "second prompt")


class Document(Row, table=True):
    """One row per corpus document."""

    __table_args__ = {"comment": "one row per corpus document"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    document: int = column("integer", "ordinal within the run", key=True)
    language: str = column("varchar", "language; xx are random tokens")
    source: str | None = column("varchar", "corpus file or dataset name", null=True)
    n_tokens: int = column("integer", "tokens")
    text_hash: str = column("varchar", "SHA-256 (16 hex) of the text")


class Token(Row, table=True):
    """One row per token of a prompt or of a kept document."""

    __table_args__ = {"comment": "one row per token of a prompt or of a kept document; key (run_id, source, item, position)"}
    run_id: str = column("varchar", "run", key=True)
    source: TokenSource = column("token_source", "prompt or document", key=True)
    item: int = column("integer", "prompt or document ordinal", key=True)
    position: int = column("smallint", "0 is the first unpadded token", key=True)
    token_id: int | None = column("integer", "id in the model's vocabulary; null where an import does not say", null=True)
    token: str = column("varchar", "decoded text, byte-safe")
    role: TokenRole = column("token_role", "what the token does in its prompt")
    char_start: int | None = column("integer", "offset into the text, null for the prepended token", null=True)
    char_end: int | None = column("integer", "end offset", null=True)


class Answer(Row, table=True):
    """One row per candidate answer of a prompt."""

    __table_args__ = {"comment": "one row per candidate answer of a prompt"}
    run_id: str = column("varchar", "run", key=True)
    prompt: int = column("integer", "prompt", key=True)
    answer: int = column("smallint", "ordinal; 0 is the correct one", key=True)
    role: AnswerRole = column("answer_role", "correct, contrast, …")
    text: str = column("varchar", "answer with its leading space")
    token_id: int | None = column("integer", "the single token, or the first of several; null where an import does not say", null=True)
    logit: float | None = column("float", "float32 logit at the decision position; null for an answer of several tokens", null=True)
    logprob: float | None = column("float", "log-probability, nats; of several tokens the sum, teacher-forced", null=True)
    rank: int | None = column("integer", "0 is the top token; null for an answer of several tokens", null=True)
    token_ids: list[int] | None = column("integer[]", "tokens of an answer of several; null for a single token", null=True)
    token_logprobs: list[float] | None = column(
        "float[]", "log-probability of each of them given the prompt and those before it, nats; null for a single token", null=True
    )


class Baseline(Row, table=True):
    """One row per prompt: what the analysed model does unedited."""

    __table_args__ = {"comment": "one row per prompt: what the analysed model does unedited"}
    run_id: str = column("varchar", "run", key=True)
    prompt: int = column("integer", "prompt", key=True)
    margin: float = column(
        "float", "logit(correct) - max logit over contrasts; with answers of several tokens, of summed log-probabilities"
    )
    correct: bool = column("boolean", "margin > 0")
    top1_token_id: int | None = column(
        "integer",
        "most probable next token; null, with the three below, where an import does not say",
        null=True,
    )
    top1_token: str | None = column("varchar", "its text", null=True)
    top1_logprob: float | None = column("float", "nats", null=True)
    entropy: float | None = column("float", "of the next-token distribution, nats", null=True)


class ReferenceBaseline(Row, table=True):
    """One row per prompt and imported baseline file: what a model does that may not be the analysed one."""

    __table_args__ = {"comment": "one row per prompt and imported baseline file: what a model does that may not be the analysed one"}
    run_id: str = column("varchar", "run", key=True)
    prompt: int = column("integer", "prompt", key=True)
    source: str = column("varchar", "file it stands in", key=True)
    model: str | None = column("varchar", "model it was measured on; null where the file does not say", null=True)
    dtype: str | None = column("varchar", "dtype of that model; null where the file does not say", null=True)
    margin: float = column("double", "log-probability of the correct answer minus that of the contrast, nats")
    correct: bool = column("boolean", "margin > 0")
    logprob_correct: float | None = column("double", "nats", null=True)
    logprob_contrast: float | None = column("double", "nats", null=True)
    generated: str | None = column("varchar", "text the model went on with", null=True)


class Activation(Row, table=True):
    """One row per (prompt, position, layer, feature) with activation > 0."""

    __table_args__ = {
        "comment": "one row per (prompt, position, layer, feature) with activation > 0; sorted by layer, feature, prompt, position; key (run_id, layer, feature, prompt, position)"  # noqa: E501
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    prompt: int = column("integer", "prompt", key=True)
    position: int = column("smallint", "position", key=True)
    activation: float = column("float", "value after the nonlinearity")


class ActivationByPrompt(Row, table=True):
    """activation once more, sorted by prompt, position, layer, feature."""

    __table_args__ = {
        "comment": "activation once more, sorted by prompt, position, layer, feature; key (run_id, prompt, position, layer, feature)"
    }
    run_id: str = column("varchar", "run", key=True)
    prompt: int = column("integer", "prompt", key=True)
    position: int = column("smallint", "position", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    activation: float = column("float", "value after the nonlinearity")


class Feature(Row, table=True):
    """One row per run and feature of an ingested layer; n_active = 0 is dead."""

    __table_args__ = {"comment": "one row per run and feature of an ingested layer; n_active = 0 is dead"}
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    n_tokens: int | None = column(
        "bigint",
        "tokens looked at, sinks and pseudo-languages left out; null, with the two below, where an import does not say",
        null=True,
    )
    n_active: int | None = column("bigint", "tokens with activation > 0", null=True)
    n_prompts_active: int | None = column("integer", "prompts or documents with at least one active token", null=True)
    density: float | None = column("double", "n_active / n_tokens", null=True)
    max_activation: float | None = column("float", "largest value", null=True)
    mean_activation: float | None = column("float", "mean over active tokens", null=True)
    sd_activation: float | None = column("float", "standard deviation over active tokens", null=True)
    encoder_norm: float | None = column("float", "Euclidean norm of the encoder row", null=True)
    decoder_norm: float | None = column("float", "Euclidean norm of the decoder row", null=True)
    promoted_token_ids: list[int] | None = column(
        "integer[]",
        "tokens whose logits the decoder row raises most, through the final norm's gain",
        null=True,
    )
    promoted_tokens: list[str] | None = column("varchar[]", "their texts", null=True)
    promoted_weights: list[float] | None = column("float[]", "their logit weights", null=True)
    suppressed_token_ids: list[int] | None = column("integer[]", "tokens lowered most", null=True)
    suppressed_tokens: list[str] | None = column("varchar[]", "their texts", null=True)
    suppressed_weights: list[float] | None = column("float[]", "their logit weights", null=True)


class Term(Row, table=True):
    """One row per run and text among the promoted tokens of its features."""

    __table_args__ = {
        "comment": "one row per run and text among the promoted tokens of its features, in the order of texts: made at publish, "
        "for searching; key (run_id, term)"
    }
    run_id: str = column("varchar", "run", key=True)
    term: int = column("integer", "ordinal within the run, from 0", key=True)
    token: str = column("varchar", "the text")
    n: int = column("bigint", "promoted tokens with this text")


class FeatureTerm(Row, table=True):
    """One row per feature and promoted token, as a number for its text."""

    __table_args__ = {
        "comment": "one row per feature and promoted token, as a number for its text: made at publish, for searching; "
        "key (run_id, layer, feature, rank)"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    rank: int = column("smallint", "0 is promoted most", key=True)
    term: int = column("integer", "its text, see term")


class FeatureLanguage(Row, table=True):
    """One row per feature and language, zeros included where the feature is active in any language."""

    __table_args__ = {
        "comment": "one row per feature and language, zeros included where the feature is active in any language; key (run_id, layer, feature, language)"  # noqa: E501
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    language: str = column("varchar", "language", key=True)
    n_tokens: int = column("bigint", "tokens of the language looked at")
    n_active: int = column("bigint", "of these, active")
    n_prompts: int = column("integer", "prompts or documents of the language")
    n_prompts_active: int = column("integer", "of these, with an active token")
    sum_activation: float = column("double", "sum over tokens")
    sum_squares: float = column("double", "sum of squares over tokens")
    max_activation: float = column("float", "largest value")


class FeatureRole(Row, table=True):
    """One row per feature, language and token role, active ones only."""

    __table_args__ = {
        "comment": "one row per feature, language and token role, active ones only; key (run_id, layer, feature, language, role)"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    language: str = column("varchar", "language", key=True)
    role: TokenRole = column("token_role", "role", key=True)
    n_tokens: int = column("bigint", "tokens with that role")
    n_active: int = column("bigint", "of these, active")
    sum_activation: float = column("double", "sum over tokens")


class FeatureProfile(Row, table=True):
    """One row per run and feature that fires: what a mechanical label is made of."""

    __table_args__ = {"comment": "one row per run and feature that fires: what a mechanical label is made of; key (run_id, layer, feature)"}
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    basis: str = column(
        "varchar", "activations: every active token; contexts: the stored contexts of a corpus run, half of them the strongest"
    )
    n_examples: int = column("integer", "active tokens looked at")
    top_tokens: list[str] = column("varchar[]", "tokens with the largest shares of the activation mass, largest first")
    top_shares: list[float] = column("double[]", "their shares of the sum of activations")
    n_distinct_tokens: int = column("integer", "different tokens it fires on")
    single_token_share: float = column("double", "share of the mass on the first of top_tokens; 1 is a single-token feature")
    role: TokenRole | None = column("token_role", "token role with the largest share of the mass", null=True)
    role_share: float | None = column("double", "its share", null=True)
    language: str | None = column("varchar", "language with the largest mean activation per token", null=True)
    language_share: float | None = column("double", "its share of the sum of these means over languages", null=True)
    script: str | None = column("varchar", "script with the largest share of the mass: Latin, Han, digits, punctuation, …", null=True)
    script_share: float | None = column("double", "its share", null=True)
    position_mean: float | None = column("double", "mean position, weighted by activation", null=True)
    position_sd: float | None = column("double", "standard deviation of the position, weighted by activation", null=True)


class FeatureBehaviour(Row, table=True):
    """One row per feature, behaviour, language and token role where it is active, made at publish."""

    __table_args__ = {
        "comment": "one row per feature, behaviour, language and token role where it is active: made at publish, for questions "
        "over all layers; key (run_id, layer, feature, behaviour, language, role)"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    behaviour: str = column("varchar", "behaviour", key=True)
    language: str = column("varchar", "language of the prompts", key=True)
    role: TokenRole | None = column("token_role", "role of the active token; null is any but the sink", key=True, null=True)
    n_prompts: int = column("integer", "prompts of the behaviour in the language")
    n_prompts_active: int = column("integer", "of these, with the feature active at the role")


class FeatureCluster(Row, table=True):
    """One row per feature and language: the cluster of concepts that most of its prompts belong to, made at publish."""

    __table_args__ = {
        "comment": "one row per feature and language: the cluster of concepts that most of its prompts belong to; made at "
        "publish; key (run_id, layer, feature, language)"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    language: str = column("varchar", "language", key=True)
    cluster: str = column(
        "varchar", "the cluster with most active prompts, the first by name of equals; the concept where a prompt has no cluster"
    )
    n_prompts: int = column("integer", "prompts of the cluster in the language")
    n_prompts_active: int = column("integer", "of these, with the feature active")
    purity: float = column("double", "n_prompts_active / prompts of the language with the feature active")
    max_activation: float = column("float", "largest value on prompts of the cluster")


class FeatureTemplate(Row, table=True):
    """One row per feature and two languages: the template that most of its prompts belong to, made at publish."""

    __table_args__ = {
        "comment": "one row per feature and two languages: the template that most of its prompts belong to; made at publish; key "
        "(run_id, layer, feature, language_a, language_b)"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    language_a: str = column("varchar", "the language that sorts first", key=True)
    language_b: str = column("varchar", "the other language", key=True)
    template: str = column("varchar", "the template with most active prompts, the first by name of equals")
    n_prompts_active: int = column("integer", "prompts of the template with the feature active, both languages")
    n_active_a: int = column("integer", "prompts with the feature active, first language, all templates")
    n_active_b: int = column("integer", "the same, second language")
    n_concepts: int = column("integer", "concepts among these prompts, both languages")


class FeatureContrast(Row, table=True):
    """One row per feature and side of a behaviour's minimal pairs where it is active, made at publish."""

    __table_args__ = {
        "comment": "one row per feature and side of a behaviour's minimal pairs where it is active: made at publish; key (run_id, "
        "behaviour, language, variant, other_variant, layer, feature)"
    }
    run_id: str = column("varchar", "run", key=True)
    behaviour: str = column("varchar", "behaviour", key=True)
    language: str | None = column("varchar", "language of the pair's first prompt; null is all", key=True, null=True)
    variant: str | None = column("varchar", "variant of the prompts on this side", key=True, null=True)
    other_variant: str | None = column("varchar", "variant of the prompts on the other side", key=True, null=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    n_pairs: int = column("integer", "pairs")
    n_only_here: int = column("integer", "pairs with the feature active on this side only")
    n_both: int = column("integer", "pairs with the feature active on both sides")
    n_concepts: int = column("integer", "concepts among the pairs with the feature on this side only")


class FeatureCorrectness(Row, table=True):
    """One row per feature active on a prompt of a behaviour and language: right against wrong answers, made at publish."""

    __table_args__ = {
        "comment": "one row per feature that is active on a prompt of a behaviour and language: how well it separates "
        "right from wrong answers; made at publish; key (run_id, behaviour, language, layer, feature)"
    }
    run_id: str = column("varchar", "run", key=True)
    behaviour: str | None = column("varchar", "behaviour; null is all", key=True, null=True)
    language: str | None = column("varchar", "language; null is all", key=True, null=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    n_right: int = column("integer", "prompts answered rightly")
    n_wrong: int = column("integer", "prompts answered wrongly")
    n_active_right: int = column("integer", "of the right ones, with the feature active")
    n_active_wrong: int = column("integer", "of the wrong ones")
    n_concepts: int = column("integer", "concepts among the active prompts")
    auc: float = column(
        "double", "chance that a right prompt has the larger value than a wrong one (largest activation, 0 where silent), ties half"
    )


class SharedCount(Row, table=True):
    """One row per layer, two languages and numbers of their prompts: how many features are active on that many, made at publish."""

    __table_args__ = {
        "comment": "one row per layer, two languages and numbers of their prompts: how many features are active on that many; "
        "made at publish; key (run_id, layer, language_a, language_b, n_active_a, n_active_b)"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    language_a: str = column("varchar", "the language that sorts first", key=True)
    language_b: str = column("varchar", "the other language", key=True)
    n_active_a: int = column("integer", "prompts of the first language with the feature active", key=True)
    n_active_b: int = column("integer", "the same, second language", key=True)
    n_features: int = column("integer", "features active on just so many prompts, not counting 0 and 0")


class ParameterSet(Row, table=True):
    """One row per parameter of a named parameter set."""

    __table_args__ = {"comment": "one row per parameter of a named parameter set"}
    parameter_set: str = column("varchar", "name, e.g. default", key=True)
    score: str = column("varchar", "score it belongs to", key=True)
    parameter: str = column("varchar", "parameter", key=True)
    value: str = column("varchar", "value as text")


class FeatureScore(Row, table=True):
    """One row per feature, score, parameter set and language pair."""

    __table_args__ = {
        "comment": "one row per feature, score, parameter set and language pair; key (run_id, layer, feature, score, parameter_set, languages)"  # noqa: E501
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    score: str = column("varchar", "name of the score, METHODS section 7", key=True)
    parameter_set: str = column("varchar", "see parameter_set", key=True)
    languages: str = column("varchar", "languages compared, joined by +, e.g. en+fr", key=True)
    value: float | None = column("double", "the score; null where support is too small", null=True)
    flag: bool | None = column("boolean", "the score's yes or no under its parameters", null=True)
    ci_low: float | None = column("double", "interval", null=True)
    ci_high: float | None = column("double", "interval", null=True)
    null_mean: float | None = column("double", "mean of the score's null", null=True)
    null_high: float | None = column("double", "95 % quantile of the null", null=True)
    p_value: float | None = column("double", "against the null", null=True)
    q_value: float | None = column("double", "Benjamini-Hochberg within (run, score, parameter set)", null=True)
    n: int | None = column("bigint", "denominator", null=True)


class FeatureVerdict(Row, table=True):
    """One row per scored feature, parameter set and two languages: every language score side by side, made at publish."""

    __table_args__ = {
        "comment": "one row per scored feature, parameter set and two languages: feature_score side by side, made at publish; key "
        "(run_id, parameter_set, language_a, language_b, layer, feature)"
    }
    run_id: str = column("varchar", "run", key=True)
    parameter_set: str = column("varchar", "see parameter_set", key=True)
    language_a: str = column("varchar", "the language that sorts first", key=True)
    language_b: str = column("varchar", "the other language", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    profile: float | None = column("double", "value of language_profile", null=True)
    rate_low: float | None = column("double", "value of bilingual_rate", null=True)
    rate_q: float | None = column("double", "its q-value", null=True)
    lape: float | None = column("double", "value of lape, over all languages of the run", null=True)
    lape_q: float | None = column("double", "its q-value", null=True)
    shared_k: float | None = column("double", "value of shared_k, over all languages of the run", null=True)
    monolinguality_a: float | None = column("double", "value of monolinguality for the first language", null=True)
    monolinguality_b: float | None = column("double", "the same for the second language", null=True)
    lift: float | None = column("double", "value of translation_lift", null=True)
    lift_p: float | None = column("double", "its p-value", null=True)
    phi: float | None = column("double", "value of translation_phi", null=True)
    bridge: float | None = column("double", "value of bridge", null=True)
    causal_bridge_q: float | None = column("double", "q-value of causal_bridge", null=True)
    yes_profile: bool | None = column("boolean", "flag of language_profile; null where it did not judge, as in all below", null=True)
    yes_rate: bool | None = column("boolean", "flag of bilingual_rate", null=True)
    yes_lape: bool | None = column("boolean", "flag of lape", null=True)
    yes_shared_k: bool | None = column("boolean", "flag of shared_k", null=True)
    yes_lift: bool | None = column("boolean", "flag of translation_lift", null=True)
    yes_bridge: bool | None = column("boolean", "flag of bridge", null=True)
    yes_causal_bridge: bool | None = column("boolean", "flag of causal_bridge", null=True)
    n_yes: int = column("smallint", "profile, rate, LAPE, shared_k and lift that say yes, and causal bridge where its q-value is below .05")


class ScoreSummary(Row, table=True):
    """One row per layer, score, parameter set and languages of feature_score, made at publish."""

    __table_args__ = {
        "comment": "one row per layer, score, parameter set and languages of feature_score: how many features it judged; made at publish"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    score: str = column("varchar", "name of the score", key=True)
    parameter_set: str = column("varchar", "see parameter_set", key=True)
    languages: str = column("varchar", "languages compared, joined by +", key=True)
    n_features: int = column("bigint", "rows")
    n_judged: int = column("bigint", "of these, with a yes or no")
    n_yes: int = column("bigint", "of these, yes")
    mean_value: float | None = column("double", "mean of the judged features' values", null=True)


class LayerScore(Row, table=True):
    """One row per layer, score, parameter set and language pair."""

    __table_args__ = {"comment": "one row per layer, score, parameter set and language pair"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    layer: int = column("smallint", "layer", key=True)
    score: str = column("varchar", "e.g. iou", key=True)
    parameter_set: str = column("varchar", "see parameter_set", key=True)
    languages: str = column("varchar", "languages compared, joined by +", key=True)
    baseline: str = column("varchar", "what the value speaks of: same_concept, other_concept, antonym_partner, split_half", key=True)
    value: float | None = column("double", "the score", null=True)
    ci_low: float | None = column("double", "95 % interval over concepts", null=True)
    ci_high: float | None = column("double", "95 % interval over concepts", null=True)
    null_mean: float | None = column("double", "mean under concepts shuffled within template", null=True)
    null_low: float | None = column("double", "2.5 % quantile of the null", null=True)
    null_high: float | None = column("double", "97.5 % quantile of the null", null=True)
    p_value: float | None = column("double", "one-sided, (1 + #null >= observed) / (1 + draws)", null=True)
    n_clusters: int | None = column("integer", "concepts", null=True)


class Histogram(Row, table=True):
    """One row per feature and bin of its positive activations."""

    __table_args__ = {"comment": "one row per feature and bin of its positive activations; key (run_id, layer, feature, bin)"}
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    bin: int = column("smallint", "ordinal", key=True)
    low: float = column("float", "lower edge")
    high: float = column("float", "upper edge")
    n: int = column("bigint", "activations in the bin")


class Neighbour(Row, table=True):
    """One row per feature, kind and rank."""

    __table_args__ = {"comment": "one row per feature, kind and rank; key (run_id, layer, feature, kind, rank)"}
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    kind: NeighbourKind = column("neighbour_kind", "how similarity is measured", key=True)
    rank: int = column("smallint", "0 is nearest", key=True)
    neighbour_layer: int = column("smallint", "layer of the similar feature")
    neighbour_feature: int = column("integer", "the similar feature")
    similarity: float = column("float", "cosine, or Jaccard of active positions")


class Context(Row, table=True):
    """One row per feature, kind and rank: a pointer into token, with a window."""

    __table_args__ = {
        "comment": "one row per feature, kind and rank: a pointer into token, with a window; key (run_id, layer, feature, kind, rank)"
    }
    run_id: str = column("varchar", "run", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    kind: ContextKind = column("context_kind", "top, quantile or non-activating sample", key=True)
    rank: int = column("smallint", "0 is strongest; for quantiles the order of bins", key=True)
    source: TokenSource = column("token_source", "prompt or document")
    item: int = column("integer", "prompt or document ordinal")
    position: int = column("smallint", "token it speaks of")
    language: str = column("varchar", "its language")
    activation: float = column("float", "value there, 0 in non-activating samples")
    quantile: int | None = column("smallint", "decile of positive activations, 9 is strongest", null=True)
    window_start: int = column("smallint", "first position shown")
    window_end: int = column("smallint", "last position shown")
    window_activations: list[float] | None = column("float[]", "value at each position of the window", null=True)


class Graph(Row, table=True):
    """One row per graph."""

    __table_args__ = {"comment": "one row per graph"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    graph: int = column("integer", "ordinal within the run", key=True)
    kind: GraphKind = column("graph_kind", "over a prompt set, or of one prompt")
    name: str = column("varchar", "name for people")
    behaviour: str | None = column("varchar", "behaviour", null=True)
    prompt: int | None = column("integer", "the prompt of an attribution graph", null=True)
    n_prompts: int = column("integer", "prompts it summarises")
    n_nodes: int = column("integer", "nodes stored")
    n_edges: int = column("bigint", "edges stored")
    replacement_score: float | None = column(
        "double",
        "share of influence through features instead of errors, attribution graphs",
        null=True,
    )
    completeness_score: float | None = column("double", "share of nodes' inputs explained, weighted by influence", null=True)
    unexplained_share: float | None = column("double", "share of the output carried by reconstruction errors", null=True)
    node_threshold: float | None = column("double", "cumulated influence kept by pruning", null=True)
    edge_threshold: float | None = column("double", "cumulated edge score kept by pruning", null=True)
    parameters: str | None = column("varchar", "JSON of all other settings", null=True)


class Node(Row, table=True):
    """One row per node of a graph."""

    __table_args__ = {"comment": "one row per node of a graph; key (run_id, graph, node)"}
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    node: int = column("integer", "ordinal within the graph", key=True)
    kind: NodeKind = column("node_kind", "what it is")
    layer: int | None = column("smallint", "layer, null for tokens, logits, input and output", null=True)
    feature: int | None = column("integer", "feature, null unless kind is feature", null=True)
    position: int | None = column("smallint", "position, null in graphs over prompts", null=True)
    role: TokenRole | None = column("token_role", "role of the position, in graphs over prompts", null=True)
    token_id: int | None = column("integer", "token of a token or logit node", null=True)
    label: str = column("varchar", "text for people")
    n_prompts: int | None = column("integer", "prompts it is active on", null=True)
    frequency: float | None = column("double", "n_prompts / prompts of the graph", null=True)
    mean_activation: float | None = column("double", "mean over prompts where active", null=True)
    sd_activation: float | None = column("double", "standard deviation over these", null=True)
    influence: float | None = column("double", "share of influence on the outputs, attribution graphs", null=True)
    selection_frequency: float | None = column("double", "share of bootstrap resamples that keep it", null=True)
    probability: float | None = column("double", "of a logit node", null=True)
    kept: bool = column("boolean", "survives pruning")
    universal: bool | None = column(
        "boolean",
        "active on nearly every prompt of every language (threshold in graph.parameters); marked, never dropped",
        null=True,
    )
    cumulative_influence: float | None = column(
        "double",
        "share of this and all stronger nodes, as circuit-tracer prints it (small is important); imported graphs have only this",
        null=True,
    )


class NodeLanguage(Row, table=True):
    """One row per node and language, graphs over prompts."""

    __table_args__ = {"comment": "one row per node and language, graphs over prompts; key (run_id, graph, node, language)"}
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    node: int = column("integer", "node", key=True)
    language: str = column("varchar", "language", key=True)
    n_prompts: int = column("integer", "prompts of the language it is active on")
    frequency: float = column("double", "n_prompts / prompts of the language")
    mean_activation: float | None = column("double", "over these", null=True)
    sd_activation: float | None = column("double", "over these", null=True)


class Edge(Row, table=True):
    """One row per edge; keyed by graph, kind, source and target node."""

    __table_args__ = {
        "comment": "one row per edge; keyed by graph, kind, source and target node; key (run_id, graph, kind, source, target)"
    }
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    kind: EdgeKind = column("edge_kind", "how the weight is defined, METHODS section 3", key=True)
    source: int = column("integer", "source node", key=True)
    target: int = column("integer", "target node", key=True)
    source_layer: int | None = column("smallint", "layer of the source, null for tokens and inputs", null=True)
    source_feature: int | None = column("integer", "feature of the source", null=True)
    target_kind: NodeKind = column("node_kind", "features, inputs, outputs and logits can be targets")
    target_layer: int | None = column("smallint", "layer of the target", null=True)
    target_feature: int | None = column("integer", "feature of the target", null=True)
    weight: float = column("double", "mean over prompts where the source is active; the single value in a graph of one prompt")
    sd: float | None = column("double", "standard deviation over prompts", null=True)
    n_prompts: int | None = column("integer", "prompts it was measured on", null=True)
    frequency: float | None = column("double", "share of prompts with a nonzero value", null=True)
    static_weight: float | None = column("double", "V_ij of a virtual weight, without activations", null=True)
    attribution: float | None = column("double", "E[1(a_j > 0) a_i] V_ij", null=True)
    target_weighted: float | None = column("double", "E[a_i a_j] / E[a_j] V_ij", null=True)
    selection_frequency: float | None = column("double", "share of bootstrap resamples that select it", null=True)
    sign_stability: float | None = column("double", "share of prompts with the sign of the mean", null=True)
    ci_low: float | None = column("double", "95 % interval over concepts", null=True)
    ci_high: float | None = column("double", "95 % interval over concepts", null=True)
    p_value: float | None = column("double", "over concept clusters, causal edges", null=True)
    q_value: float | None = column("double", "Benjamini-Hochberg over all candidates of the graph", null=True)
    accepted: bool = column("boolean", "false: a candidate that was tested and rejected, or pruned")


class EdgeLanguage(Row, table=True):
    """One row per edge and language, graphs over prompts."""

    __table_args__ = {"comment": "one row per edge and language, graphs over prompts; key (run_id, graph, kind, source, target, language)"}
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    kind: EdgeKind = column("edge_kind", "kind", key=True)
    source: int = column("integer", "source node", key=True)
    target: int = column("integer", "target node", key=True)
    language: str = column("varchar", "language", key=True)
    n_prompts: int = column("integer", "prompts of the language")
    weight: float = column("double", "mean over these")
    sd: float | None = column("double", "standard deviation over these", null=True)
    attribution: float | None = column("double", "virtual weights: E[1(a_j > 0) a_i] V_ij over the language's tokens", null=True)


class EdgePrompt(Row, table=True):
    """One row per edge and prompt: the values behind star and causal edges."""

    __table_args__ = {
        "comment": "one row per edge and prompt: the values behind star and causal edges; key (run_id, graph, kind, source, target, prompt)"
    }
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    kind: EdgeKind = column("edge_kind", "kind", key=True)
    source: int = column("integer", "source node", key=True)
    target: int = column("integer", "target node", key=True)
    prompt: int = column("integer", "prompt", key=True)
    weight: float = column("double", "value on that prompt")
    conditional: bool | None = column("boolean", "causal edges: whether the source was active", null=True)


class TargetTotal(Row, table=True):
    """One row per attributed target: what its incoming edges are normalised by."""

    __table_args__ = {"comment": "one row per attributed target: what its incoming edges are normalised by; key (run_id, graph, node)"}
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    node: int = column("integer", "target node", key=True)
    absolute_total: float = column("double", "sum of absolute weights over all sources")
    absolute_selected: float = column("double", "the same over stored sources only")
    signed_total: float = column("double", "sum of weights over all sources")
    constant: float = column("double", "what no source carries: biases, left-out positions")


class Partition(Row, table=True):
    """One row per division of a graph into communities or supernodes."""

    __table_args__ = {"comment": "one row per division of a graph into communities or supernodes"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    graph: int = column("integer", "graph", key=True)
    partition: int = column("integer", "ordinal within the graph", key=True)
    kind: str = column("varchar", "community or supernode")
    algorithm: str = column("varchar", "e.g. louvain, consensus, average linkage")
    seed: int | None = column("integer", "seed", null=True)
    resolution: float | None = column("double", "resolution parameter", null=True)
    quality: float | None = column("double", "modularity", null=True)
    n_groups: int = column("integer", "number of groups")
    stability: float | None = column("double", "mean adjusted Rand index over seeds", null=True)


class Community(Row, table=True):
    """One row per node of a community partition."""

    __table_args__ = {"comment": "one row per node of a community partition; key (run_id, graph, partition, node)"}
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    partition: int = column("integer", "partition", key=True)
    node: int = column("integer", "node", key=True)
    community: int = column("integer", "group, 0 is the largest")
    stability: float | None = column("double", "share of seeds in which the node stays with its group", null=True)


class Supernode(Row, table=True):
    """One row per node of a supernode partition."""

    __table_args__ = {"comment": "one row per node of a supernode partition; key (run_id, graph, partition, node)"}
    run_id: str = column("varchar", "run", key=True)
    graph: int = column("integer", "graph", key=True)
    partition: int = column("integer", "partition", key=True)
    node: int = column("integer", "node", key=True)
    supernode: int = column("integer", "group, 0 is the largest")
    name: str | None = column("varchar", "name for people", null=True)
    stability: float | None = column("double", "share of resamples in which the node stays with its group", null=True)


class Intervention(Row, table=True):
    """One row per thing that was done, controls included."""

    __table_args__ = {"comment": "one row per thing that was done, controls included"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    intervention: int = column("integer", "ordinal within the run", key=True)
    name: str = column("varchar", "text for people")
    behaviour: str | None = column("varchar", "behaviour", null=True)
    rule: Rule = column("rule", "how target values follow from the clean run")
    mode: Mode = column("mode", "what recomputes after the edit")
    positions: PositionRule = column("position_rule", "where")
    strength: float | None = column("double", "alpha of scale and add", null=True)
    hook: str = column("varchar", "tensor that was edited: mlp_out here; imported runs may say mlp_in")
    keeps_error: bool = column("boolean", "whether the reconstruction error stays in place")
    sound: bool = column("boolean", "false: known to be done at the wrong place, see run.method")
    n_members: int = column("integer", "features edited together")
    layer_low: int | None = column("smallint", "lowest edited layer", null=True)
    layer_high: int | None = column("smallint", "highest edited layer", null=True)
    control_of: int | None = column("integer", "the intervention it controls", null=True)
    control: ControlKind | None = column("control_kind", "kind of control", null=True)
    draw: int | None = column("integer", "which draw of the control", null=True)
    n_pool: int | None = column("integer", "features the control could be drawn from", null=True)
    distinct_sets: float | None = column("double", "number of distinct control sets", null=True)
    seed: int | None = column("integer", "seed of the draw", null=True)
    noise_floor: float | None = column("double", "largest |effect| of the no-op over batch shapes", null=True)
    parameters: str | None = column("varchar", "JSON of all other settings", null=True)


class InterventionMember(Row, table=True):
    """One row per feature edited by an intervention."""

    __table_args__ = {
        "comment": "one row per feature edited by an intervention; key (run_id, intervention, layer, feature, position, concept)"
    }
    run_id: str = column("varchar", "run", key=True)
    intervention: int = column("integer", "intervention", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    position: int = column("smallint", "position; -1 stands for the intervention's position rule", key=True)
    value: float | None = column("double", "absolute target value where it is the same on all prompts, else null", null=True)
    concept: str | None = column(
        "varchar",
        "concept whose feature set it belongs to, where sets differ by concept; null: the same set for all prompts",
        key=True,
        null=True,
    )


class Outcome(Row, table=True):
    """One row per intervention, prompt and source prompt: what it did."""

    __table_args__ = {
        "comment": "one row per intervention, prompt and source prompt: what it did; key (run_id, intervention, prompt, source_prompt)"
    }
    run_id: str = column("varchar", "run", key=True)
    intervention: int = column("integer", "intervention", key=True)
    prompt: int = column("integer", "prompt that was run", key=True)
    source_prompt: int = column("integer", "prompt whose values were put in; -1 where there is none", key=True)
    margin_before: float = column("float", "margin of the unedited run")
    margin_after: float = column("float", "margin of the edited run")
    effect: float = column("float", "after - before")
    kl: float | None = column("float", "KL(before || after), nats", null=True)
    top1_before: int | None = column("integer", "token", null=True)
    top1_after: int | None = column("integer", "token", null=True)
    predicted_gradient: float | None = column("float", "(a' - a) x gradient, summed over members", null=True)
    predicted_integrated: float | None = column("float", "integrated gradients", null=True)
    n_edited: int | None = column("integer", "(position, feature) values that really changed; null where an import does not say", null=True)
    delta_norm: float | None = column("float", "Euclidean norm of the edit at the MLP output, summed in squares over places", null=True)


class OutcomeAnswer(Row, table=True):
    """One row per outcome and answer."""

    __table_args__ = {"comment": "one row per outcome and answer; key (run_id, intervention, prompt, source_prompt, answer)"}
    run_id: str = column("varchar", "run", key=True)
    intervention: int = column("integer", "intervention", key=True)
    prompt: int = column("integer", "prompt", key=True)
    source_prompt: int = column("integer", "-1 where there is none", key=True)
    answer: int = column(
        "smallint",
        "answer ordinal of the prompt; -1: the source's answer in the target language, -2: the source's own answer, -3: its partner",
        key=True,
    )
    token_id: int = column("integer", "token")
    logit_before: float = column("float", "logit of the unedited run")
    logit_after: float = column("float", "logit of the edited run")
    logprob_before: float = column("float", "nats")
    logprob_after: float = column("float", "nats")


class Effect(Row, table=True):
    """One row per intervention and language: the tested summary of outcome."""

    __table_args__ = {"comment": "one row per intervention and language: the tested summary of outcome"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    intervention: int = column("integer", "intervention, never a control", key=True)
    language: str = column("varchar", "language of the prompts, or all", key=True)
    split: str = column("varchar", "split, held_out (all but train), or all", key=True)
    control: str = column("varchar", "control_kind it is compared with, or none", key=True)
    n_prompts: int = column("integer", "prompts")
    n_clusters: int = column("integer", "concepts")
    mean: float = column("double", "mean effect")
    ci_low: float | None = column("double", "95 % interval over concepts", null=True)
    ci_high: float | None = column("double", "95 % interval over concepts", null=True)
    method: str | None = column("varchar", "interval's method", null=True)
    control_mean: float | None = column("double", "mean effect of the controls", null=True)
    control_low: float | None = column("double", "2.5 % quantile over draws", null=True)
    control_high: float | None = column("double", "97.5 % quantile over draws", null=True)
    n_controls: int = column("integer", "draws")
    length_ratio: float | None = column(
        "double",
        "mean over draws of outcome.delta_norm over the intervention's own on the same prompts; null without delta_norm",
        null=True,
    )
    n_in_caliper: int | None = column("integer", "draws whose change is as long as the intervention's own, within 20 %", null=True)
    n_left_out: int | None = column(
        "integer", "prompts of the intervention that have no such control and are left out of this comparison", null=True
    )
    p_value: float | None = column("double", "(1 + #controls as extreme) / (1 + draws); null below 100 distinct sets", null=True)
    q_value: float | None = column("double", "Benjamini-Hochberg within (run, rule, language)", null=True)


class Continuation(Row, table=True):
    """One row per intervention, prompt and sample: how the model went on."""

    __table_args__ = {"comment": "one row per intervention, prompt and sample: how the model went on"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    intervention: int = column("integer", "intervention under which it was written; the one of rule no_op is the unedited model", key=True)
    prompt: int = column("integer", "prompt it follows", key=True)
    sample: int = column("smallint", "ordinal of the sample; samples of one ordinal share their random numbers", key=True)
    temperature: float = column("double", "0 is greedy")
    seed: int | None = column("integer", "seed of the samples; null where greedy", null=True)
    text: str = column("varchar", "the new tokens as one text")
    token_ids: list[int] = column("integer[]", "the new tokens")
    tokens: list[str] = column("varchar[]", "their texts")
    token_logprobs: list[float] = column("float[]", "log-probability of each under the run that wrote it (at temperature 1), nats")
    kl: float | None = column("double", "KL(unedited || edited) of the token after the prompt, nats; null where unedited", null=True)


class NextToken(Row, table=True):
    """One row per intervention, prompt and token that it made much more or much less probable as the next one."""

    __table_args__ = {"comment": "one row per intervention, prompt and token that it made much more or much less probable as the next one"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    intervention: int = column("integer", "intervention", key=True)
    prompt: int = column("integer", "prompt", key=True)
    token_id: int = column("integer", "token", key=True)
    token: str = column("varchar", "its text")
    logprob_before: float = column("double", "log-probability after the prompt, unedited, nats")
    logprob_after: float = column("double", "the same, edited")


class FeatureChange(Row, table=True):
    """One row per intervention, prompt and place of a later feature that it moved most."""

    __table_args__ = {"comment": "one row per intervention, prompt and place of a later feature that it moved most"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    intervention: int = column("integer", "intervention", key=True)
    prompt: int = column("integer", "prompt", key=True)
    layer: int = column("smallint", "layer, above the lowest edited one", key=True)
    feature: int = column("integer", "feature", key=True)
    position: int = column("smallint", "position in the prompt", key=True)
    before: float = column("float", "activation in the unedited run")
    after: float = column("float", "activation in the edited run")


class Circuit(Row, table=True):
    """One row per circuit."""

    __table_args__ = {"comment": "one row per circuit"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    circuit: int = column("integer", "ordinal within the run", key=True)
    graph: int | None = column("integer", "graph it was found in", null=True)
    name: str = column("varchar", "name for people")
    behaviour: str | None = column("varchar", "behaviour", null=True)
    method: str = column("varchar", "how it was found")
    reference: str | None = column("varchar", "reference values of non-members: zero, mean, counterfactual", null=True)
    control_of: int | None = column("integer", "the circuit it is a random match of", null=True)
    n_features: int = column("integer", "features, inputs and outputs not counted")
    n_edges: int = column("integer", "edges")
    parameters: str | None = column("varchar", "JSON of all other settings", null=True)


class CircuitMember(Row, table=True):
    """One row per feature or edge of a circuit."""

    __table_args__ = {"comment": "one row per feature or edge of a circuit"}
    run_id: str = column("varchar", "run", key=True)
    circuit: int = column("integer", "circuit", key=True)
    member: int = column("integer", "ordinal", key=True)
    kind: MemberKind = column("member_kind", "feature or edge")
    layer: int | None = column("smallint", "layer of the feature, or of the edge's source", null=True)
    feature: int | None = column("integer", "feature", null=True)
    position: int | None = column("smallint", "position, null for a role", null=True)
    role: TokenRole | None = column("token_role", "role of the position", null=True)
    target_layer: int | None = column("smallint", "edge's target", null=True)
    target_feature: int | None = column("integer", "edge's target; null is the output", null=True)
    edge_kind: EdgeKind | None = column("edge_kind", "kind of the edge", null=True)
    weight: float | None = column("double", "weight of the edge", null=True)


class Path(Row, table=True):
    """One row per chain through a graph."""

    __table_args__ = {"comment": "one row per chain through a graph"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    graph: int = column("integer", "graph", key=True)
    kind: EdgeKind = column("edge_kind", "kind of all its edges", key=True)
    rank: int = column("integer", "0 is strongest", key=True)
    circuit: int | None = column("integer", "circuit it belongs to", null=True)
    nodes: list[int] = column("integer[]", "nodes from source to sink")
    weights: list[float] = column("double[]", "normalised weight of each step")
    score: float = column("double", "product of the weights")
    target: str | None = column("varchar", "sink it ends in", null=True)


class Evaluation(Row, table=True):
    """One row per measured property of a circuit, a behaviour or a computation type."""

    __table_args__ = {"comment": "one row per measured property of a circuit, a behaviour or a computation type"}
    run_id: str = column("varchar", "run", key=True, references="run.run_id")
    evaluation: int = column("integer", "ordinal within the run", key=True)
    subject: str = column("varchar", "circuit, behaviour or type")
    circuit: int | None = column("integer", "circuit, where the subject is one", null=True)
    behaviour: str | None = column("varchar", "behaviour", null=True)
    property: str = column("varchar", "e.g. necessity, faithfulness, cpr, directionality")
    computation_type: ComputationType | None = column("computation_type", "type whose test this is", null=True)
    language: str = column("varchar", "language, or all")
    split: str = column("varchar", "split, held_out (all but train), or all")
    reference: str | None = column("varchar", "reference values of non-members", null=True)
    error_mode: str | None = column("varchar", "reconstruction error: clean, live or mean", null=True)
    x: float | None = column("double", "point of a curve: share of nodes kept, strength", null=True)
    value: float | None = column("double", "measured", null=True)
    ci_low: float | None = column("double", "interval", null=True)
    ci_high: float | None = column("double", "interval", null=True)
    control_mean: float | None = column("double", "mean over matched random ones", null=True)
    control_low: float | None = column("double", "2.5 % quantile", null=True)
    control_high: float | None = column("double", "97.5 % quantile", null=True)
    n_controls: int | None = column("integer", "random ones", null=True)
    n_prompts: int | None = column("integer", "prompts", null=True)
    n_clusters: int | None = column("integer", "concepts", null=True)
    p_value: float | None = column("double", "(1 + #control as extreme) / (1 + n)", null=True)
    supports: bool | None = column("boolean", "evidence for (true) or against (false), null where undecided", null=True)
    note: str | None = column("varchar", "what to know when reading it", null=True)
    model: str | None = column("varchar", "model it was measured on, where that is not the run's analysed model", null=True)
    dtype: str | None = column("varchar", "dtype of that model", null=True)


class Transfer(Row, table=True):
    """One row per swap of features from a source prompt into a target prompt."""

    __table_args__ = {
        "comment": "one row per swap of features from a source prompt into a target prompt; key (run_id, intervention, prompt, source_prompt)"  # noqa: E501
    }
    run_id: str = column("varchar", "run", key=True)
    intervention: int = column("integer", "intervention of rule swap", key=True)
    prompt: int = column("integer", "target prompt", key=True)
    source_prompt: int = column("integer", "source prompt", key=True)
    source_language: str = column("varchar", "language")
    target_language: str = column("varchar", "language")
    source_concept: str = column("varchar", "concept")
    target_concept: str = column("varchar", "concept")
    expected_token_id: int = column("integer", "the source's answer in the target language")
    rise: float = column("double", "rise of logit(expected) - logit(target's own answer)")
    rise_source_language: float | None = column("double", "the same for the source's answer in its own language", null=True)
    rise_partner: float | None = column("double", "the same for the antonym partner in the target language", null=True)
    prefers_expected: bool = column("boolean", "whether the expected answer beats the target's own after the swap")
    control: ControlKind | None = column("control_kind", "null for the swap itself", null=True)


class FeatureMatch(Row, table=True):
    """One row per pair of features of two runs, or feature of one alone: what became of it."""

    __table_args__ = {
        "comment": "one row per pair of features of two runs, or feature of one alone: what became of it; key (run_id, measure, match)"
    }
    run_id: str = column("varchar", "comparing run", key=True)
    measure: str = column(
        "varchar", "decoder: cosine of decoder rows; coactivation: Jaccard of active tokens of the texts that both runs have", key=True
    )
    match: int = column("integer", "ordinal within the run and measure", key=True)
    run_a: str = column("varchar", "first run")
    run_b: str = column("varchar", "second run")
    transcoder_set_a: str = column("varchar", "its dictionary")
    transcoder_set_b: str = column("varchar", "its dictionary")
    layer_a: int | None = column("smallint", "layer in the first", null=True)
    feature_a: int | None = column("integer", "feature of the first; null where it is new", null=True)
    layer_b: int | None = column("smallint", "layer in the second", null=True)
    feature_b: int | None = column("integer", "feature of the second; null where it is gone", null=True)
    relation: str = column("varchar", "identical, matched, split, merged, weak, gone or new; defined in docs/compare.md")
    similarity: float | None = column("double", "by the measure; null where nothing is near", null=True)
    cosine: float | None = column("double", "of the decoder rows, where known", null=True)
    jaccard: float | None = column("double", "of the active tokens, where known", null=True)


class Label(Row, table=True):
    """One row per label of a feature."""

    __table_args__ = {"comment": "one row per label of a feature"}
    label_id: str = column("varchar", "16 hex digits", key=True)
    transcoder_set: str = column("varchar", "set")
    layer: int = column("smallint", "layer")
    feature: int = column("integer", "feature")
    text: str = column("varchar", "the label")
    method: LabelMethod = column("label_method", "how it was made")
    model: str | None = column("varchar", "model that wrote it", null=True)
    author: str | None = column("varchar", "person or tool", null=True)
    source_run: str | None = column("varchar", "run whose texts it was made from; null where a person or another tool made it", null=True)
    version: str | None = column("varchar", "version of the rules or of the prompt that made it", null=True)
    rule: str | None = column(
        "varchar", "JSON: where the label says that the feature fires, for labels that can be scored by rule", null=True
    )
    created_at: datetime = column("timestamp", "naive UTC")
    retired: bool = column("boolean", "replaced by a later one")


class LabelScore(Row, table=True):
    """One row per label, score and language."""

    __table_args__ = {"comment": "one row per label, score and language"}
    label_id: str = column("varchar", "label", key=True)
    score: str = column("varchar", "detection, fuzzing or intruder", key=True)
    language: str = column("varchar", "language of the examples", key=True)
    prompt_version: str = column(
        "varchar", "version of the scoring prompt, scorer, and run of the examples, e.g. detection-1/rule@e7c4d7f6", key=True
    )
    value: float = column("double", "balanced accuracy")
    n_examples: int = column("integer", "examples")
    ci_low: float | None = column("double", "95 % interval over examples", null=True)
    ci_high: float | None = column("double", "95 % interval over examples", null=True)
    sensitivity: float | None = column("double", "share of activating examples that were recognised", null=True)
    specificity: float | None = column("double", "share of the other examples that were recognised", null=True)
    auc: float | None = column("double", "area under the ROC curve of its probabilities; null where it gives none", null=True)
    n_activating: int | None = column("integer", "activating examples", null=True)
    source_run: str | None = column("varchar", "run whose texts were judged", null=True)
    model: str | None = column("varchar", "scorer", null=True)


class LabelExample(Row, table=True):
    """One row per example that a label was scored on."""

    __table_args__ = {
        "comment": "one row per example that a label was scored on; key (run_id, label_id, layer, feature, score, language, example)"
    }
    run_id: str = column("varchar", "scoring run", key=True)
    label_id: str = column("varchar", "label; empty for intruder detection, which needs none", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    score: str = column("varchar", "detection, fuzzing or intruder", key=True)
    language: str = column("varchar", "language of the example", key=True)
    example: int = column("smallint", "ordinal", key=True)
    source: TokenSource = column("token_source", "prompt or document of the run whose texts were judged")
    item: int = column("integer", "its ordinal")
    position: int = column("smallint", "token it speaks of")
    activating: bool = column("boolean", "whether the feature fires there (fuzzing: whether the marked tokens are the firing ones)")
    quantile: int | None = column(
        "smallint", "decile among the activations in that language, 9 is strongest; null where it is silent", null=True
    )
    predicted: bool = column("boolean", "what the scorer said")
    probability: float | None = column("double", "how sure it was, where it says", null=True)


class IntruderScore(Row, table=True):
    """One row per feature and language: how often the text it does not fire on is found among texts it fires on."""

    __table_args__ = {
        "comment": "one row per feature and language: how often the text it does not fire on is found among texts it fires on"
    }
    run_id: str = column("varchar", "scoring run", key=True, references="run.run_id")
    source_run: str = column("varchar", "run whose texts were judged")
    transcoder_set: str = column("varchar", "set")
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    language: str = column("varchar", "language of the texts", key=True)
    prompt_version: str = column("varchar", "version of the scoring prompt, and scorer", key=True)
    value: float = column("double", "share of trials in which the intruder was found")
    chance: float = column("double", "1 / texts of a trial")
    n_trials: int = column("integer", "trials")
    ci_low: float = column("double", "95 % Wilson interval over trials")
    ci_high: float = column("double", "95 % Wilson interval over trials")
    model: str | None = column("varchar", "scorer", null=True)


class LabelFailure(Row, table=True):
    """One row per feature that a language model gave no usable label or judgement for."""

    __table_args__ = {"comment": "one row per feature that a language model gave no usable label or judgement for"}
    run_id: str = column("varchar", "labelling or scoring run", key=True, references="run.run_id")
    failure: int = column("integer", "ordinal within the run", key=True)
    layer: int = column("smallint", "layer")
    feature: int = column("integer", "feature")
    step: str = column("varchar", "write, detection, fuzzing or intruder")
    language: str | None = column("varchar", "language of the examples", null=True)
    label_id: str | None = column("varchar", "label that was to be scored", null=True)
    reason: str = column("varchar", "what went wrong")
    attempts: int = column("smallint", "times it was tried")


class Note(Row, table=True):
    """One row per note."""

    __table_args__ = {"comment": "one row per note"}
    note_id: str = column("varchar", "16 hex digits", key=True)
    subject: str = column("varchar", "what it is about: feature, prompt, run, circuit, atlas")
    transcoder_set: str | None = column("varchar", "set of the feature", null=True)
    layer: int | None = column("smallint", "layer of the feature", null=True)
    feature: int | None = column("integer", "feature", null=True)
    reference: str | None = column("varchar", "id of another subject", null=True)
    text: str = column("varchar", "Markdown")
    author: str | None = column("varchar", "person", null=True)
    created_at: datetime = column("timestamp", "naive UTC")
    deleted: bool = column("boolean", "taken back")


class Star(Row, table=True):
    """One row per starred feature."""

    __table_args__ = {"comment": "one row per starred feature"}
    transcoder_set: str = column("varchar", "set", key=True)
    layer: int = column("smallint", "layer", key=True)
    feature: int = column("integer", "feature", key=True)
    created_at: datetime = column("timestamp", "naive UTC")


class SavedQuery(Row, table=True):
    """One row per saved query."""

    __table_args__ = {"comment": "one row per saved query"}
    name: str = column("varchar", "name", key=True)
    sql: str = column("varchar", "text")
    parameters: str | None = column("varchar", "JSON", null=True)
    created_at: datetime = column("timestamp", "naive UTC")


class Claim(Row, table=True):
    """One row per published figure and recomputation."""

    __table_args__ = {"comment": "one row per published figure and recomputation"}
    claim_id: str = column("varchar", "name in the claims file", key=True)
    statement: str = column("varchar", "the claim in words")
    source: str = column("varchar", "where it stands")
    source_hash: str | None = column("varchar", "SHA-256 of the data behind it", null=True)
    published: str = column("varchar", "value as published")
    query: str = column("varchar", "question that recomputes it")
    parameters: str | None = column("varchar", "JSON", null=True)
    recomputed: str | None = column("varchar", "value the data give", null=True)
    tolerance: float | None = column("double", "absolute", null=True)
    verdict: Verdict = column("verdict", "reproduced, contradicted or not reproducible")
    note: str | None = column("varchar", "why", null=True)
    run_id: str | None = column("varchar", "run it speaks of", null=True)


TABLES: dict[str, type[Row]] = {str(model.__tablename__): model for model in Row.__subclasses__()}
"""All tables of schema.sql, in its order."""
CATALOGUE_TABLES = ("label", "label_score", "note", "star", "saved_query")
"""Tables that people write to: SQLite in the folder, copied into the published file."""
STORE_TABLES = ("atlas", "run", "run_table")
"""Tables that publish fills by itself; no shard holds them."""


def table_columns(table: str) -> dict[str, Any]:
    """Give a table's columns by name, as SQLAlchemy describes them.

    Raises UsageError for an unknown table.
    """
    if table not in TABLES:
        raise UsageError(f"no table {table!r}", hint=f"Tables: {', '.join(TABLES)}.")
    return {str(item.name): item for item in TABLES[table].__table__.columns}  # type: ignore[attr-defined]


def key_columns(table: str) -> list[str]:
    """Name the columns of a table's key, declared or said in its comment."""
    return [name for name, item in table_columns(table).items() if item.primary_key]


def arrow_type(duckdb_type: str) -> pa.DataType:
    """Give the Arrow type of a column type of schema.sql; enums are strings."""
    if duckdb_type.endswith("[]"):
        return pa.list_(arrow_type(duckdb_type[:-2]))
    return ARROW_TYPES.get(duckdb_type, pa.string())


def arrow_schema(table: str, *, with_run: bool = False) -> pa.Schema:
    """Give the Arrow schema of a table's rows in a shard: its columns without `run_id`, nullability included.

    `with_run=True` keeps `run_id`, as in the published file. Tables that are not of one run (model, label, …) never lose any.
    Raises UsageError for an unknown table.
    """
    return pa.schema(
        [
            pa.field(name, arrow_type(item.info["duckdb"]), nullable=bool(item.nullable))
            for name, item in table_columns(table).items()
            if with_run or name != "run_id" or not has_run(table)
        ]
    )


def has_run(table: str) -> bool:
    """Say whether the rows of a table belong to a run: `run_id` is its first column (a claim only speaks of one)."""
    return next(iter(table_columns(table))) == "run_id"


def schema_text() -> str:
    """Give schema.sql as it is."""
    return schema_sql_path().read_text(encoding="utf-8")


def list_tables() -> pa.Table:
    """List all tables: table, columns, key, meaning."""
    return pa.table(
        {
            "table": list(TABLES),
            "columns": [len(table_columns(name)) for name in TABLES],
            "key": [", ".join(key_columns(name)) for name in TABLES],
            "meaning": [TABLES[name].__table__.comment for name in TABLES],  # type: ignore[attr-defined]
        }
    )


def describe_table(table: str) -> pa.Table:
    """List the columns of a table: column, type, key, null, references, meaning.

    Raises UsageError for an unknown table.
    """
    columns = table_columns(table)
    return pa.table(
        {
            "column": list(columns),
            "type": [item.info["duckdb"] for item in columns.values()],
            "key": [bool(item.primary_key) for item in columns.values()],
            "null": [bool(item.nullable) for item in columns.values()],
            "references": pa.array(
                [next((key.target_fullname for key in item.foreign_keys), None) for item in columns.values()], pa.string()
            ),
            "meaning": [item.comment for item in columns.values()],
        }
    )

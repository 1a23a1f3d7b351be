-- The feature atlas: every table, enum, key and comment, in pipeline order.
-- This file is the only DDL, the data dictionary and the vocabulary: the names here are the names in Python, in questions, in the
-- command line, in the terminal browser and in the docs. Later versions add columns and tables and never rename.
--
-- Conventions. `run_id` comes first in everything that was measured. Tables that can pass a million rows carry no primary key (it would
-- cost 8 times the load); their key stands in the table's comment as `key (…)` and an audit enforces it. `feature` has one all the same,
-- because sorted views page by it. Times are naive UTC. Values after a comparison are after - before. Languages are ISO 639-1 codes;
-- `xx` is the pseudo-language of random tokens.

create type run_kind as enum ('ingest', 'import', 'publish', 'label', 'compare', 'ask');
create type run_state as enum ('running', 'complete', 'failed');
create type computation_type as enum ('hidden_state_transfer', 'candidate_set_filtering', 'abstract_mapping', 'gated_decision');
create type split as enum ('train', 'validation', 'test');
create type token_source as enum ('prompt', 'document');
create type token_role as enum ('sink', 'content', 'operator', 'quote', 'template', 'decision', 'padding', 'other');
create type pair_kind as enum ('translation', 'minimal');
create type answer_role as enum ('correct', 'contrast', 'distractor', 'partner', 'source_language');
create type activation_function as enum ('relu', 'jump_relu', 'topk');
create type graph_kind as enum ('prompt_set', 'attribution');
create type node_kind as enum ('feature', 'error', 'token', 'logit', 'input', 'output');
create type edge_kind as enum ('star_total', 'star_direct', 'virtual_weight', 'attribution', 'causal');
create type context_kind as enum ('top', 'quantile', 'non_activating');
create type neighbour_kind as enum ('decoder_cosine', 'coactivation');
create type rule as enum ('no_op', 'zero', 'mean', 'resample', 'scale', 'add', 'patch', 'swap', 'random_direction', 'error_only', 'whole_mlp', 'clamp', 'mixed');
create type mode as enum ('free', 'frozen_attention', 'direct', 'constrained_layers');
create type position_rule as enum ('decision', 'content', 'all', 'explicit');
create type control_kind as enum ('matched_random', 'matched_random_rescaled', 'same_norm_direction', 'error_only', 'whole_mlp', 'no_op', 'other_concept', 'antonym_partner', 'split_half');
create type member_kind as enum ('feature', 'edge');
create type label_method as enum ('manual', 'mechanical', 'imported', 'language_model');
create type verdict as enum ('reproduced', 'contradicted', 'not_reproducible');

-- ----------------------------------------------------------------------------------------------------
-- What was used
-- ----------------------------------------------------------------------------------------------------

create table atlas (
    format_version     integer not null,
    manifest           integer not null,
    manifest_hash      varchar not null,
    code_version       varchar not null,
    published_at       timestamp not null,
    activations_inline boolean not null
);
comment on table atlas is 'one row: what this published file is; key (manifest)';
comment on column atlas.format_version is 'version of schema.sql and of the folder layout; a reader refuses another one';
comment on column atlas.manifest is 'number of the manifest this file was built from';
comment on column atlas.manifest_hash is 'SHA-256 of that manifest';
comment on column atlas.code_version is 'version of the package that published';
comment on column atlas.published_at is 'naive UTC';
comment on column atlas.activations_inline is 'true: activation is a table in this file; false: a view over the shards of the folder';

create table model (
    model_id       varchar not null,
    name           varchar not null,
    source         varchar not null,
    revision       varchar,
    architecture   varchar not null,
    dtype          varchar not null,
    n_layers       smallint not null,
    d_model        integer not null,
    vocab_size     integer not null,
    n_parameters   bigint,
    config_hash    varchar,
    weights_hash   varchar,
    tokenizer_hash varchar,
    primary key (model_id)
);
comment on table model is 'one row per language model';
comment on column model.model_id is 'first 16 hex digits of the SHA-256 over config and weights hashes';
comment on column model.name is 'hub name or the directory''s name';
comment on column model.source is 'where it was loaded from, without local path: hub id, `embedded:bilingual`, or directory name';
comment on column model.revision is 'hub revision, where known';
comment on column model.architecture is 'transformers class, e.g. Qwen3ForCausalLM';
comment on column model.dtype is 'dtype the analysis ran in';
comment on column model.n_layers is 'number of decoder layers';
comment on column model.d_model is 'width of the residual stream';
comment on column model.vocab_size is 'rows of the unembedding';
comment on column model.n_parameters is 'number of parameters';
comment on column model.config_hash is 'SHA-256 of config.json';
comment on column model.weights_hash is 'SHA-256 over the weight files';
comment on column model.tokenizer_hash is 'SHA-256 of the tokenizer files';

create table transcoder (
    transcoder_set varchar not null,
    layer          smallint not null,
    model_id       varchar references model (model_id),
    source         varchar not null,
    revision       varchar,
    file_hash      varchar,
    d_transcoder   integer not null,
    activation     activation_function not null,
    dtype          varchar not null,
    has_skip       boolean not null,
    hook_in        varchar not null,
    hook_out       varchar not null,
    gain_folded    boolean not null,
    neuronpedia    varchar,
    primary key (transcoder_set, layer)
);
comment on table transcoder is 'one row per layer of a transcoder set';
comment on column transcoder.transcoder_set is 'name of the set; for published sets the one Neuronpedia uses';
comment on column transcoder.layer is 'layer whose MLP it replaces';
comment on column transcoder.model_id is 'model it was trained on, where known';
comment on column transcoder.source is 'hub id, `embedded:bilingual`, or directory name';
comment on column transcoder.revision is 'hub revision, where known';
comment on column transcoder.file_hash is 'SHA-256 of the layer''s file';
comment on column transcoder.d_transcoder is 'number of features';
comment on column transcoder.activation is 'nonlinearity after the encoder';
comment on column transcoder.dtype is 'dtype on disk';
comment on column transcoder.has_skip is 'whether an affine skip connection is part of it';
comment on column transcoder.hook_in is 'hook point it reads, e.g. mlp_in';
comment on column transcoder.hook_out is 'hook point it predicts, e.g. mlp_out';
comment on column transcoder.gain_folded is 'whether the norm''s gain is already in the encoder';
comment on column transcoder.neuronpedia is 'Neuronpedia source id, e.g. qwen3-4b/20-transcoder-hp';

create table run (
    run_id          varchar not null,
    kind            run_kind not null,
    name            varchar not null,
    state           run_state not null,
    attempt         smallint not null,
    model_id        varchar references model (model_id),
    transcoder_set  varchar,
    plan            varchar not null,
    plan_hash       varchar not null,
    prompt_set_hash varchar,
    seed            integer,
    code_version    varchar not null,
    method          varchar,
    started_at      timestamp,
    finished_at     timestamp,
    machine         varchar,
    seconds         double,
    primary key (run_id)
);
comment on table run is 'one row per ingest, import or publish that the manifest shows';
comment on column run.run_id is 'first 16 hex digits of the SHA-256 of the canonical plan and input hashes';
comment on column run.kind is 'what wrote it';
comment on column run.name is 'name given in the plan';
comment on column run.state is 'complete, or how it stopped';
comment on column run.attempt is 'which attempt is visible; earlier ones stay on disk until gc';
comment on column run.model_id is 'analysed model';
comment on column run.transcoder_set is 'set of dictionaries';
comment on column run.plan is 'canonical JSON of the plan';
comment on column run.plan_hash is 'SHA-256 of the plan';
comment on column run.prompt_set_hash is 'SHA-256 over all prompts and answers';
comment on column run.seed is 'base seed';
comment on column run.code_version is 'package version that wrote it';
comment on column run.method is 'free text: how an imported run was made, with what is known to be unsound';
comment on column run.started_at is 'naive UTC';
comment on column run.finished_at is 'naive UTC';
comment on column run.machine is 'processor, memory, device';
comment on column run.seconds is 'wall-clock seconds';

create table run_table (
    run_id     varchar not null references run (run_id),
    table_name varchar not null,
    n_shards   integer not null,
    n_rows     bigint not null,
    n_bytes    bigint not null,
    primary key (run_id, table_name)
);
comment on table run_table is 'one row per run and table: what was written';
comment on column run_table.run_id is 'run';
comment on column run_table.table_name is 'table of this schema';
comment on column run_table.n_shards is 'number of shards';
comment on column run_table.n_rows is 'number of rows';
comment on column run_table.n_bytes is 'bytes of Parquet';

create table transcoder_quality (
    run_id         varchar not null references run (run_id),
    layer          smallint not null,
    language       varchar not null,
    n_tokens       bigint not null,
    l0             double,
    fvu            double,
    n_dead         integer,
    kl             double,
    top1_agreement double,
    primary key (run_id, layer, language)
);
comment on table transcoder_quality is 'one row per run, layer and language: how well the dictionary stands for the MLP';
comment on column transcoder_quality.run_id is 'run';
comment on column transcoder_quality.layer is 'layer; -1 is all ingested layers replaced at once';
comment on column transcoder_quality.language is 'language of the tokens';
comment on column transcoder_quality.n_tokens is 'tokens measured, sinks left out';
comment on column transcoder_quality.l0 is 'active features a token (mean)';
comment on column transcoder_quality.fvu is 'fraction of variance of mlp_out unexplained (0 is perfect)';
comment on column transcoder_quality.n_dead is 'features never active on these tokens';
comment on column transcoder_quality.kl is 'KL(model || model with this MLP replaced), nats a decision position';
comment on column transcoder_quality.top1_agreement is 'share of decision positions whose top token stays';


-- ----------------------------------------------------------------------------------------------------
-- Prompts and corpora
-- ----------------------------------------------------------------------------------------------------

create table behaviour (
    run_id           varchar not null references run (run_id),
    behaviour        varchar not null,
    title            varchar not null,
    computation_type computation_type,
    languages        varchar[] not null,
    n_prompts        integer not null,
    prompt_set_hash  varchar not null,
    gate             double,
    definition       varchar,
    primary key (run_id, behaviour)
);
comment on table behaviour is 'one row per run and behaviour';
comment on column behaviour.run_id is 'run';
comment on column behaviour.behaviour is 'name, e.g. antonyms';
comment on column behaviour.title is 'one sentence';
comment on column behaviour.computation_type is 'the type it was written to exercise';
comment on column behaviour.languages is 'languages with prompts';
comment on column behaviour.n_prompts is 'number of prompts';
comment on column behaviour.prompt_set_hash is 'SHA-256 over prompts and answers';
comment on column behaviour.gate is 'accuracy below which the plan refuses to go on, by language';
comment on column behaviour.definition is 'the behaviour''s TOML text';

create table prompt (
    run_id      varchar not null references run (run_id),
    prompt      integer not null,
    behaviour   varchar not null,
    prompt_hash varchar not null,
    language    varchar not null,
    concept     varchar not null,
    cluster     varchar,
    template    varchar not null,
    split       split not null,
    held_out    varchar,
    text        varchar not null,
    n_tokens    smallint,
    operand     varchar,
    variant     varchar,
    primary key (run_id, prompt)
);
comment on table prompt is 'one row per run and prompt';
comment on column prompt.run_id is 'run';
comment on column prompt.prompt is 'ordinal within the run, from 0';
comment on column prompt.behaviour is 'behaviour';
comment on column prompt.prompt_hash is 'SHA-256 (16 hex) of language, text and answers: equal across runs';
comment on column prompt.language is 'language';
comment on column prompt.concept is 'concept asked about';
comment on column prompt.cluster is 'unit that statistics resample, e.g. an antonym pair; null: the concept itself';
comment on column prompt.template is 'template''s name';
comment on column prompt.split is 'train is used for discovery, test by nothing before evaluation';
comment on column prompt.held_out is 'concept, template, both, or null';
comment on column prompt.text is 'the prompt as given to the tokenizer';
comment on column prompt.n_tokens is 'tokens, with the prepended one; null where an import does not say';
comment on column prompt.operand is 'the word the answer depends on';
comment on column prompt.variant is 'for minimal pairs: allow or refuse, singular or plural';

create table prompt_pair (
    run_id   varchar not null references run (run_id),
    pair     integer not null,
    kind     pair_kind not null,
    prompt_a integer not null,
    prompt_b integer not null,
    primary key (run_id, pair)
);
comment on table prompt_pair is 'one row per pair of prompts that differ in one respect';
comment on column prompt_pair.run_id is 'run';
comment on column prompt_pair.pair is 'ordinal within the run';
comment on column prompt_pair.kind is 'what the two prompts differ in';
comment on column prompt_pair.prompt_a is 'first prompt';
comment on column prompt_pair.prompt_b is 'second prompt';

create table document (
    run_id    varchar not null references run (run_id),
    document  integer not null,
    language  varchar not null,
    source    varchar,
    n_tokens  integer not null,
    text_hash varchar not null,
    primary key (run_id, document)
);
comment on table document is 'one row per corpus document';
comment on column document.run_id is 'run';
comment on column document.document is 'ordinal within the run';
comment on column document.language is 'language; xx are random tokens';
comment on column document.source is 'corpus file or dataset name';
comment on column document.n_tokens is 'tokens';
comment on column document.text_hash is 'SHA-256 (16 hex) of the text';

create table token (
    run_id     varchar not null,
    source     token_source not null,
    item       integer not null,
    position   smallint not null,
    token_id   integer,
    token      varchar not null,
    role       token_role not null,
    char_start integer,
    char_end   integer
);
comment on table token is 'one row per token of a prompt or of a kept document; key (run_id, source, item, position)';
comment on column token.run_id is 'run';
comment on column token.source is 'prompt or document';
comment on column token.item is 'prompt or document ordinal';
comment on column token.position is '0 is the first unpadded token';
comment on column token.token_id is 'id in the model''s vocabulary; null where an import does not say';
comment on column token.token is 'decoded text, byte-safe';
comment on column token.role is 'what the token does in its prompt';
comment on column token.char_start is 'offset into the text, null for the prepended token';
comment on column token.char_end is 'end offset';

create table answer (
    run_id   varchar not null,
    prompt   integer not null,
    answer   smallint not null,
    role     answer_role not null,
    text     varchar not null,
    token_id integer,
    logit    float,
    logprob  float,
    rank     integer,
    token_ids integer[],
    token_logprobs float[],
    primary key (run_id, prompt, answer)
);
comment on table answer is 'one row per candidate answer of a prompt';
comment on column answer.run_id is 'run';
comment on column answer.prompt is 'prompt';
comment on column answer.answer is 'ordinal; 0 is the correct one';
comment on column answer.role is 'correct, contrast, …';
comment on column answer.text is 'answer with its leading space';
comment on column answer.token_id is 'the single token, or the first of several; null where an import does not say';
comment on column answer.logit is 'float32 logit at the decision position; null for an answer of several tokens';
comment on column answer.logprob is 'log-probability, nats; of several tokens the sum, teacher-forced';
comment on column answer.rank is '0 is the top token; null for an answer of several tokens';
comment on column answer.token_ids is 'tokens of an answer of several; null for a single token';
comment on column answer.token_logprobs is 'log-probability of each of them given the prompt and those before it, nats; null for a single token';

create table baseline (
    run_id        varchar not null,
    prompt        integer not null,
    margin        float not null,
    correct       boolean not null,
    top1_token_id integer,
    top1_token    varchar,
    top1_logprob  float,
    entropy       float,
    primary key (run_id, prompt)
);
comment on table baseline is 'one row per prompt: what the analysed model does unedited';
comment on column baseline.run_id is 'run';
comment on column baseline.prompt is 'prompt';
comment on column baseline.margin is 'logit(correct) - max logit over contrasts; with answers of several tokens, of summed log-probabilities';
comment on column baseline.correct is 'margin > 0';
comment on column baseline.top1_token_id is 'most probable next token; null, with the three below, where an import does not say';
comment on column baseline.top1_token is 'its text';
comment on column baseline.top1_logprob is 'nats';
comment on column baseline.entropy is 'of the next-token distribution, nats';

create table reference_baseline (
    run_id           varchar not null,
    prompt           integer not null,
    source           varchar not null,
    model            varchar,
    dtype            varchar,
    margin           double not null,
    correct          boolean not null,
    logprob_correct  double,
    logprob_contrast double,
    generated        varchar,
    primary key (run_id, prompt, source)
);
comment on table reference_baseline is 'one row per prompt and imported baseline file: what a model does that may not be the analysed one';
comment on column reference_baseline.run_id is 'run';
comment on column reference_baseline.prompt is 'prompt';
comment on column reference_baseline.source is 'file it stands in';
comment on column reference_baseline.model is 'model it was measured on; null where the file does not say';
comment on column reference_baseline.dtype is 'dtype of that model; null where the file does not say';
comment on column reference_baseline.margin is 'log-probability of the correct answer minus that of the contrast, nats';
comment on column reference_baseline.correct is 'margin > 0';
comment on column reference_baseline.logprob_correct is 'nats';
comment on column reference_baseline.logprob_contrast is 'nats';
comment on column reference_baseline.generated is 'text the model went on with';


-- ----------------------------------------------------------------------------------------------------
-- Features
-- ----------------------------------------------------------------------------------------------------

create table activation (
    run_id     varchar not null,
    layer      smallint not null,
    feature    integer not null,
    prompt     integer not null,
    position   smallint not null,
    activation float not null
);
comment on table activation is 'one row per (prompt, position, layer, feature) with activation > 0; sorted by layer, feature, prompt, position; key (run_id, layer, feature, prompt, position)';
comment on column activation.run_id is 'run';
comment on column activation.layer is 'layer';
comment on column activation.feature is 'feature';
comment on column activation.prompt is 'prompt';
comment on column activation.position is 'position';
comment on column activation.activation is 'value after the nonlinearity';

create table activation_by_prompt (
    run_id     varchar not null,
    prompt     integer not null,
    position   smallint not null,
    layer      smallint not null,
    feature    integer not null,
    activation float not null
);
comment on table activation_by_prompt is 'activation once more, sorted by prompt, position, layer, feature; key (run_id, prompt, position, layer, feature)';
comment on column activation_by_prompt.run_id is 'run';
comment on column activation_by_prompt.prompt is 'prompt';
comment on column activation_by_prompt.position is 'position';
comment on column activation_by_prompt.layer is 'layer';
comment on column activation_by_prompt.feature is 'feature';
comment on column activation_by_prompt.activation is 'value after the nonlinearity';

create table feature (
    run_id               varchar not null,
    layer                smallint not null,
    feature              integer not null,
    n_tokens             bigint,
    n_active             bigint,
    n_prompts_active     integer,
    density              double,
    max_activation       float,
    mean_activation      float,
    sd_activation        float,
    encoder_norm         float,
    decoder_norm         float,
    promoted_token_ids   integer[],
    promoted_tokens      varchar[],
    promoted_weights     float[],
    suppressed_token_ids integer[],
    suppressed_tokens    varchar[],
    suppressed_weights   float[],
    primary key (run_id, layer, feature)
);
comment on table feature is 'one row per run and feature of an ingested layer; n_active = 0 is dead';
comment on column feature.run_id is 'run';
comment on column feature.layer is 'layer';
comment on column feature.feature is 'feature';
comment on column feature.n_tokens is 'tokens looked at, sinks and pseudo-languages left out; null, with the two below, where an import does not say';
comment on column feature.n_active is 'tokens with activation > 0';
comment on column feature.n_prompts_active is 'prompts or documents with at least one active token';
comment on column feature.density is 'n_active / n_tokens';
comment on column feature.max_activation is 'largest value';
comment on column feature.mean_activation is 'mean over active tokens';
comment on column feature.sd_activation is 'standard deviation over active tokens';
comment on column feature.encoder_norm is 'Euclidean norm of the encoder row';
comment on column feature.decoder_norm is 'Euclidean norm of the decoder row';
comment on column feature.promoted_token_ids is 'tokens whose logits the decoder row raises most, through the final norm''s gain';
comment on column feature.promoted_tokens is 'their texts';
comment on column feature.promoted_weights is 'their logit weights';
comment on column feature.suppressed_token_ids is 'tokens lowered most';
comment on column feature.suppressed_tokens is 'their texts';
comment on column feature.suppressed_weights is 'their logit weights';

create table term (
    run_id varchar not null,
    term   integer not null,
    token  varchar not null,
    n      bigint not null
);
comment on table term is 'one row per run and text among the promoted tokens of its features, in the order of texts: made at publish, for searching; key (run_id, term)';
comment on column term.run_id is 'run';
comment on column term.term is 'ordinal within the run, from 0';
comment on column term.token is 'the text';
comment on column term.n is 'promoted tokens with this text';

create table feature_term (
    run_id  varchar not null,
    layer   smallint not null,
    feature integer not null,
    rank    smallint not null,
    term    integer not null
);
comment on table feature_term is 'one row per feature and promoted token, as a number for its text: made at publish, for searching; key (run_id, layer, feature, rank)';
comment on column feature_term.run_id is 'run';
comment on column feature_term.layer is 'layer';
comment on column feature_term.feature is 'feature';
comment on column feature_term.rank is '0 is promoted most';
comment on column feature_term.term is 'its text, see term';

create table feature_language (
    run_id           varchar not null,
    layer            smallint not null,
    feature          integer not null,
    language         varchar not null,
    n_tokens         bigint not null,
    n_active         bigint not null,
    n_prompts        integer not null,
    n_prompts_active integer not null,
    sum_activation   double not null,
    sum_squares      double not null,
    max_activation   float not null
);
comment on table feature_language is 'one row per feature and language, zeros included where the feature is active in any language; key (run_id, layer, feature, language)';
comment on column feature_language.run_id is 'run';
comment on column feature_language.layer is 'layer';
comment on column feature_language.feature is 'feature';
comment on column feature_language.language is 'language';
comment on column feature_language.n_tokens is 'tokens of the language looked at';
comment on column feature_language.n_active is 'of these, active';
comment on column feature_language.n_prompts is 'prompts or documents of the language';
comment on column feature_language.n_prompts_active is 'of these, with an active token';
comment on column feature_language.sum_activation is 'sum over tokens';
comment on column feature_language.sum_squares is 'sum of squares over tokens';
comment on column feature_language.max_activation is 'largest value';

create table feature_role (
    run_id         varchar not null,
    layer          smallint not null,
    feature        integer not null,
    language       varchar not null,
    role           token_role not null,
    n_tokens       bigint not null,
    n_active       bigint not null,
    sum_activation double not null
);
comment on table feature_role is 'one row per feature, language and token role, active ones only; key (run_id, layer, feature, language, role)';
comment on column feature_role.run_id is 'run';
comment on column feature_role.layer is 'layer';
comment on column feature_role.feature is 'feature';
comment on column feature_role.language is 'language';
comment on column feature_role.role is 'role';
comment on column feature_role.n_tokens is 'tokens with that role';
comment on column feature_role.n_active is 'of these, active';
comment on column feature_role.sum_activation is 'sum over tokens';

create table feature_profile (
    run_id             varchar not null,
    layer              smallint not null,
    feature            integer not null,
    basis              varchar not null,
    n_examples         integer not null,
    top_tokens         varchar[] not null,
    top_shares         double[] not null,
    n_distinct_tokens  integer not null,
    single_token_share double not null,
    role               token_role,
    role_share         double,
    language           varchar,
    language_share     double,
    script             varchar,
    script_share       double,
    position_mean      double,
    position_sd        double
);
comment on table feature_profile is 'one row per run and feature that fires: what a mechanical label is made of; key (run_id, layer, feature)';
comment on column feature_profile.run_id is 'run';
comment on column feature_profile.layer is 'layer';
comment on column feature_profile.feature is 'feature';
comment on column feature_profile.basis is 'activations: every active token; contexts: the stored contexts of a corpus run, half of them the strongest';
comment on column feature_profile.n_examples is 'active tokens looked at';
comment on column feature_profile.top_tokens is 'tokens with the largest shares of the activation mass, largest first';
comment on column feature_profile.top_shares is 'their shares of the sum of activations';
comment on column feature_profile.n_distinct_tokens is 'different tokens it fires on';
comment on column feature_profile.single_token_share is 'share of the mass on the first of top_tokens; 1 is a single-token feature';
comment on column feature_profile.role is 'token role with the largest share of the mass';
comment on column feature_profile.role_share is 'its share';
comment on column feature_profile.language is 'language with the largest mean activation per token';
comment on column feature_profile.language_share is 'its share of the sum of these means over languages';
comment on column feature_profile.script is 'script with the largest share of the mass: Latin, Han, digits, punctuation, …';
comment on column feature_profile.script_share is 'its share';
comment on column feature_profile.position_mean is 'mean position, weighted by activation';
comment on column feature_profile.position_sd is 'standard deviation of the position, weighted by activation';

create table feature_behaviour (
    run_id           varchar not null,
    layer            smallint not null,
    feature          integer not null,
    behaviour        varchar not null,
    language         varchar not null,
    role             token_role,
    n_prompts        integer not null,
    n_prompts_active integer not null
);
comment on table feature_behaviour is 'one row per feature, behaviour, language and token role where it is active: made at publish, for questions over all layers; key (run_id, layer, feature, behaviour, language, role)';
comment on column feature_behaviour.run_id is 'run';
comment on column feature_behaviour.layer is 'layer';
comment on column feature_behaviour.feature is 'feature';
comment on column feature_behaviour.behaviour is 'behaviour';
comment on column feature_behaviour.language is 'language of the prompts';
comment on column feature_behaviour.role is 'role of the active token; null is any but the sink';
comment on column feature_behaviour.n_prompts is 'prompts of the behaviour in the language';
comment on column feature_behaviour.n_prompts_active is 'of these, with the feature active at the role';

create table feature_cluster (
    run_id           varchar not null,
    layer            smallint not null,
    feature          integer not null,
    language         varchar not null,
    cluster          varchar not null,
    n_prompts        integer not null,
    n_prompts_active integer not null,
    purity           double not null,
    max_activation   float not null
);
comment on table feature_cluster is 'one row per feature and language: the cluster of concepts that most of its prompts belong to; made at publish; key (run_id, layer, feature, language)';
comment on column feature_cluster.run_id is 'run';
comment on column feature_cluster.layer is 'layer';
comment on column feature_cluster.feature is 'feature';
comment on column feature_cluster.language is 'language';
comment on column feature_cluster.cluster is 'the cluster with most active prompts, the first by name of equals; the concept where a prompt has no cluster';
comment on column feature_cluster.n_prompts is 'prompts of the cluster in the language';
comment on column feature_cluster.n_prompts_active is 'of these, with the feature active';
comment on column feature_cluster.purity is 'n_prompts_active / prompts of the language with the feature active';
comment on column feature_cluster.max_activation is 'largest value on prompts of the cluster';

create table feature_template (
    run_id           varchar not null,
    layer            smallint not null,
    feature          integer not null,
    language_a       varchar not null,
    language_b       varchar not null,
    template         varchar not null,
    n_prompts_active integer not null,
    n_active_a       integer not null,
    n_active_b       integer not null,
    n_concepts       integer not null
);
comment on table feature_template is 'one row per feature and two languages: the template that most of its prompts belong to; made at publish; key (run_id, layer, feature, language_a, language_b)';
comment on column feature_template.run_id is 'run';
comment on column feature_template.layer is 'layer';
comment on column feature_template.feature is 'feature';
comment on column feature_template.language_a is 'the language that sorts first';
comment on column feature_template.language_b is 'the other language';
comment on column feature_template.template is 'the template with most active prompts, the first by name of equals';
comment on column feature_template.n_prompts_active is 'prompts of the template with the feature active, both languages';
comment on column feature_template.n_active_a is 'prompts with the feature active, first language, all templates';
comment on column feature_template.n_active_b is 'the same, second language';
comment on column feature_template.n_concepts is 'concepts among these prompts, both languages';

create table feature_contrast (
    run_id        varchar not null,
    behaviour     varchar not null,
    language      varchar,
    variant       varchar,
    other_variant varchar,
    layer         smallint not null,
    feature       integer not null,
    n_pairs       integer not null,
    n_only_here   integer not null,
    n_both        integer not null,
    n_concepts    integer not null
);
comment on table feature_contrast is 'one row per feature and side of a behaviour''s minimal pairs where it is active: made at publish; key (run_id, behaviour, language, variant, other_variant, layer, feature)';
comment on column feature_contrast.run_id is 'run';
comment on column feature_contrast.behaviour is 'behaviour';
comment on column feature_contrast.language is 'language of the pair''s first prompt; null is all';
comment on column feature_contrast.variant is 'variant of the prompts on this side';
comment on column feature_contrast.other_variant is 'variant of the prompts on the other side';
comment on column feature_contrast.layer is 'layer';
comment on column feature_contrast.feature is 'feature';
comment on column feature_contrast.n_pairs is 'pairs';
comment on column feature_contrast.n_only_here is 'pairs with the feature active on this side only';
comment on column feature_contrast.n_both is 'pairs with the feature active on both sides';
comment on column feature_contrast.n_concepts is 'concepts among the pairs with the feature on this side only';

create table feature_correctness (
    run_id         varchar not null,
    behaviour      varchar,
    language       varchar,
    layer          smallint not null,
    feature        integer not null,
    n_right        integer not null,
    n_wrong        integer not null,
    n_active_right integer not null,
    n_active_wrong integer not null,
    n_concepts     integer not null,
    auc            double not null
);
comment on table feature_correctness is 'one row per feature that is active on a prompt of a behaviour and language: how well it separates right from wrong answers; made at publish; key (run_id, behaviour, language, layer, feature)';
comment on column feature_correctness.run_id is 'run';
comment on column feature_correctness.behaviour is 'behaviour; null is all';
comment on column feature_correctness.language is 'language; null is all';
comment on column feature_correctness.layer is 'layer';
comment on column feature_correctness.feature is 'feature';
comment on column feature_correctness.n_right is 'prompts answered rightly';
comment on column feature_correctness.n_wrong is 'prompts answered wrongly';
comment on column feature_correctness.n_active_right is 'of the right ones, with the feature active';
comment on column feature_correctness.n_active_wrong is 'of the wrong ones';
comment on column feature_correctness.n_concepts is 'concepts among the active prompts';
comment on column feature_correctness.auc is 'chance that a right prompt has the larger value than a wrong one (largest activation, 0 where silent), ties half';

create table shared_count (
    run_id     varchar not null,
    layer      smallint not null,
    language_a varchar not null,
    language_b varchar not null,
    n_active_a integer not null,
    n_active_b integer not null,
    n_features integer not null
);
comment on table shared_count is 'one row per layer, two languages and numbers of their prompts: how many features are active on that many; made at publish; key (run_id, layer, language_a, language_b, n_active_a, n_active_b)';
comment on column shared_count.run_id is 'run';
comment on column shared_count.layer is 'layer';
comment on column shared_count.language_a is 'the language that sorts first';
comment on column shared_count.language_b is 'the other language';
comment on column shared_count.n_active_a is 'prompts of the first language with the feature active';
comment on column shared_count.n_active_b is 'the same, second language';
comment on column shared_count.n_features is 'features active on just so many prompts, not counting 0 and 0';

create table parameter_set (
    parameter_set varchar not null,
    score         varchar not null,
    parameter     varchar not null,
    value         varchar not null,
    primary key (parameter_set, score, parameter)
);
comment on table parameter_set is 'one row per parameter of a named parameter set';
comment on column parameter_set.parameter_set is 'name, e.g. default';
comment on column parameter_set.score is 'score it belongs to';
comment on column parameter_set.parameter is 'parameter';
comment on column parameter_set.value is 'value as text';

create table feature_score (
    run_id        varchar not null,
    layer         smallint not null,
    feature       integer not null,
    score         varchar not null,
    parameter_set varchar not null,
    languages     varchar not null,
    value         double,
    flag          boolean,
    ci_low        double,
    ci_high       double,
    null_mean     double,
    null_high     double,
    p_value       double,
    q_value       double,
    n             bigint
);
comment on table feature_score is 'one row per feature, score, parameter set and language pair; key (run_id, layer, feature, score, parameter_set, languages)';
comment on column feature_score.run_id is 'run';
comment on column feature_score.layer is 'layer';
comment on column feature_score.feature is 'feature';
comment on column feature_score.score is 'name of the score, METHODS section 7';
comment on column feature_score.parameter_set is 'see parameter_set';
comment on column feature_score.languages is 'languages compared, joined by +, e.g. en+fr';
comment on column feature_score.value is 'the score; null where support is too small';
comment on column feature_score.flag is 'the score''s yes or no under its parameters';
comment on column feature_score.ci_low is 'interval';
comment on column feature_score.ci_high is 'interval';
comment on column feature_score.null_mean is 'mean of the score''s null';
comment on column feature_score.null_high is '95 % quantile of the null';
comment on column feature_score.p_value is 'against the null';
comment on column feature_score.q_value is 'Benjamini-Hochberg within (run, score, parameter set)';
comment on column feature_score.n is 'denominator';

create table feature_verdict (
    run_id            varchar not null,
    parameter_set     varchar not null,
    language_a        varchar not null,
    language_b        varchar not null,
    layer             smallint not null,
    feature           integer not null,
    profile           double,
    rate_low          double,
    rate_q            double,
    lape              double,
    lape_q            double,
    shared_k          double,
    monolinguality_a  double,
    monolinguality_b  double,
    lift              double,
    lift_p            double,
    phi               double,
    bridge            double,
    causal_bridge_q   double,
    yes_profile       boolean,
    yes_rate          boolean,
    yes_lape          boolean,
    yes_shared_k      boolean,
    yes_lift          boolean,
    yes_bridge        boolean,
    yes_causal_bridge boolean,
    n_yes             smallint not null
);
comment on table feature_verdict is 'one row per scored feature, parameter set and two languages: feature_score side by side, made at publish; key (run_id, parameter_set, language_a, language_b, layer, feature)';
comment on column feature_verdict.run_id is 'run';
comment on column feature_verdict.parameter_set is 'see parameter_set';
comment on column feature_verdict.language_a is 'the language that sorts first';
comment on column feature_verdict.language_b is 'the other language';
comment on column feature_verdict.layer is 'layer';
comment on column feature_verdict.feature is 'feature';
comment on column feature_verdict.profile is 'value of language_profile';
comment on column feature_verdict.rate_low is 'value of bilingual_rate';
comment on column feature_verdict.rate_q is 'its q-value';
comment on column feature_verdict.lape is 'value of lape, over all languages of the run';
comment on column feature_verdict.lape_q is 'its q-value';
comment on column feature_verdict.shared_k is 'value of shared_k, over all languages of the run';
comment on column feature_verdict.monolinguality_a is 'value of monolinguality for the first language';
comment on column feature_verdict.monolinguality_b is 'the same for the second language';
comment on column feature_verdict.lift is 'value of translation_lift';
comment on column feature_verdict.lift_p is 'its p-value';
comment on column feature_verdict.phi is 'value of translation_phi';
comment on column feature_verdict.bridge is 'value of bridge';
comment on column feature_verdict.causal_bridge_q is 'q-value of causal_bridge';
comment on column feature_verdict.yes_profile is 'flag of language_profile; null where it did not judge, as in all below';
comment on column feature_verdict.yes_rate is 'flag of bilingual_rate';
comment on column feature_verdict.yes_lape is 'flag of lape';
comment on column feature_verdict.yes_shared_k is 'flag of shared_k';
comment on column feature_verdict.yes_lift is 'flag of translation_lift';
comment on column feature_verdict.yes_bridge is 'flag of bridge';
comment on column feature_verdict.yes_causal_bridge is 'flag of causal_bridge';
comment on column feature_verdict.n_yes is 'profile, rate, LAPE, shared_k and lift that say yes, and causal bridge where its q-value is below .05';

create table score_summary (
    run_id        varchar not null,
    layer         smallint not null,
    score         varchar not null,
    parameter_set varchar not null,
    languages     varchar not null,
    n_features    bigint not null,
    n_judged      bigint not null,
    n_yes         bigint not null,
    mean_value    double,
    primary key (run_id, layer, score, parameter_set, languages)
);
comment on table score_summary is 'one row per layer, score, parameter set and languages of feature_score: how many features it judged; made at publish';
comment on column score_summary.run_id is 'run';
comment on column score_summary.layer is 'layer';
comment on column score_summary.score is 'name of the score';
comment on column score_summary.parameter_set is 'see parameter_set';
comment on column score_summary.languages is 'languages compared, joined by +';
comment on column score_summary.n_features is 'rows';
comment on column score_summary.n_judged is 'of these, with a yes or no';
comment on column score_summary.n_yes is 'of these, yes';
comment on column score_summary.mean_value is 'mean of the judged features'' values';

create table layer_score (
    run_id        varchar not null references run (run_id),
    layer         smallint not null,
    score         varchar not null,
    parameter_set varchar not null,
    languages     varchar not null,
    baseline      varchar not null,
    value         double,
    ci_low        double,
    ci_high       double,
    null_mean     double,
    null_low      double,
    null_high     double,
    p_value       double,
    n_clusters    integer,
    primary key (run_id, layer, score, parameter_set, languages, baseline)
);
comment on table layer_score is 'one row per layer, score, parameter set and language pair';
comment on column layer_score.run_id is 'run';
comment on column layer_score.layer is 'layer';
comment on column layer_score.score is 'e.g. iou';
comment on column layer_score.parameter_set is 'see parameter_set';
comment on column layer_score.languages is 'languages compared, joined by +';
comment on column layer_score.baseline is 'what the value speaks of: same_concept, other_concept, antonym_partner, split_half';
comment on column layer_score.value is 'the score';
comment on column layer_score.ci_low is '95 % interval over concepts';
comment on column layer_score.ci_high is '95 % interval over concepts';
comment on column layer_score.null_mean is 'mean under concepts shuffled within template';
comment on column layer_score.null_low is '2.5 % quantile of the null';
comment on column layer_score.null_high is '97.5 % quantile of the null';
comment on column layer_score.p_value is 'one-sided, (1 + #null >= observed) / (1 + draws)';
comment on column layer_score.n_clusters is 'concepts';

create table histogram (
    run_id  varchar not null,
    layer   smallint not null,
    feature integer not null,
    bin     smallint not null,
    low     float not null,
    high    float not null,
    n       bigint not null
);
comment on table histogram is 'one row per feature and bin of its positive activations; key (run_id, layer, feature, bin)';
comment on column histogram.run_id is 'run';
comment on column histogram.layer is 'layer';
comment on column histogram.feature is 'feature';
comment on column histogram.bin is 'ordinal';
comment on column histogram.low is 'lower edge';
comment on column histogram.high is 'upper edge';
comment on column histogram.n is 'activations in the bin';

create table neighbour (
    run_id            varchar not null,
    layer             smallint not null,
    feature           integer not null,
    kind              neighbour_kind not null,
    rank              smallint not null,
    neighbour_layer   smallint not null,
    neighbour_feature integer not null,
    similarity        float not null
);
comment on table neighbour is 'one row per feature, kind and rank; key (run_id, layer, feature, kind, rank)';
comment on column neighbour.run_id is 'run';
comment on column neighbour.layer is 'layer';
comment on column neighbour.feature is 'feature';
comment on column neighbour.kind is 'how similarity is measured';
comment on column neighbour.rank is '0 is nearest';
comment on column neighbour.neighbour_layer is 'layer of the similar feature';
comment on column neighbour.neighbour_feature is 'the similar feature';
comment on column neighbour.similarity is 'cosine, or Jaccard of active positions';

create table context (
    run_id             varchar not null,
    layer              smallint not null,
    feature            integer not null,
    kind               context_kind not null,
    rank               smallint not null,
    source             token_source not null,
    item               integer not null,
    position           smallint not null,
    language           varchar not null,
    activation         float not null,
    quantile           smallint,
    window_start       smallint not null,
    window_end         smallint not null,
    window_activations float[]
);
comment on table context is 'one row per feature, kind and rank: a pointer into token, with a window; key (run_id, layer, feature, kind, rank)';
comment on column context.run_id is 'run';
comment on column context.layer is 'layer';
comment on column context.feature is 'feature';
comment on column context.kind is 'top, quantile or non-activating sample';
comment on column context.rank is '0 is strongest; for quantiles the order of bins';
comment on column context.source is 'prompt or document';
comment on column context.item is 'prompt or document ordinal';
comment on column context.position is 'token it speaks of';
comment on column context.language is 'its language';
comment on column context.activation is 'value there, 0 in non-activating samples';
comment on column context.quantile is 'decile of positive activations, 9 is strongest';
comment on column context.window_start is 'first position shown';
comment on column context.window_end is 'last position shown';
comment on column context.window_activations is 'value at each position of the window';


-- ----------------------------------------------------------------------------------------------------
-- Graphs
-- ----------------------------------------------------------------------------------------------------

create table graph (
    run_id             varchar not null references run (run_id),
    graph              integer not null,
    kind               graph_kind not null,
    name               varchar not null,
    behaviour          varchar,
    prompt             integer,
    n_prompts          integer not null,
    n_nodes            integer not null,
    n_edges            bigint not null,
    replacement_score  double,
    completeness_score double,
    unexplained_share  double,
    node_threshold     double,
    edge_threshold     double,
    parameters         varchar,
    primary key (run_id, graph)
);
comment on table graph is 'one row per graph';
comment on column graph.run_id is 'run';
comment on column graph.graph is 'ordinal within the run';
comment on column graph.kind is 'over a prompt set, or of one prompt';
comment on column graph.name is 'name for people';
comment on column graph.behaviour is 'behaviour';
comment on column graph.prompt is 'the prompt of an attribution graph';
comment on column graph.n_prompts is 'prompts it summarises';
comment on column graph.n_nodes is 'nodes stored';
comment on column graph.n_edges is 'edges stored';
comment on column graph.replacement_score is 'share of influence through features instead of errors, attribution graphs';
comment on column graph.completeness_score is 'share of nodes'' inputs explained, weighted by influence';
comment on column graph.unexplained_share is 'share of the output carried by reconstruction errors';
comment on column graph.node_threshold is 'cumulated influence kept by pruning';
comment on column graph.edge_threshold is 'cumulated edge score kept by pruning';
comment on column graph.parameters is 'JSON of all other settings';

create table node (
    run_id              varchar not null,
    graph               integer not null,
    node                integer not null,
    kind                node_kind not null,
    layer               smallint,
    feature             integer,
    position            smallint,
    role                token_role,
    token_id            integer,
    label               varchar not null,
    n_prompts           integer,
    frequency           double,
    mean_activation     double,
    sd_activation       double,
    influence           double,
    selection_frequency double,
    probability         double,
    kept                boolean not null,
    universal           boolean,
    cumulative_influence double
);
comment on table node is 'one row per node of a graph; key (run_id, graph, node)';
comment on column node.run_id is 'run';
comment on column node.graph is 'graph';
comment on column node.node is 'ordinal within the graph';
comment on column node.kind is 'what it is';
comment on column node.layer is 'layer, null for tokens, logits, input and output';
comment on column node.feature is 'feature, null unless kind is feature';
comment on column node.position is 'position, null in graphs over prompts';
comment on column node.role is 'role of the position, in graphs over prompts';
comment on column node.token_id is 'token of a token or logit node';
comment on column node.label is 'text for people';
comment on column node.n_prompts is 'prompts it is active on';
comment on column node.frequency is 'n_prompts / prompts of the graph';
comment on column node.mean_activation is 'mean over prompts where active';
comment on column node.sd_activation is 'standard deviation over these';
comment on column node.influence is 'share of influence on the outputs, attribution graphs';
comment on column node.selection_frequency is 'share of bootstrap resamples that keep it';
comment on column node.probability is 'of a logit node';
comment on column node.kept is 'survives pruning';
comment on column node.universal is 'active on nearly every prompt of every language (threshold in graph.parameters); marked, never dropped';
comment on column node.cumulative_influence is 'share of this and all stronger nodes, as circuit-tracer prints it (small is important); imported graphs have only this';

create table node_language (
    run_id          varchar not null,
    graph           integer not null,
    node            integer not null,
    language        varchar not null,
    n_prompts       integer not null,
    frequency       double not null,
    mean_activation double,
    sd_activation   double
);
comment on table node_language is 'one row per node and language, graphs over prompts; key (run_id, graph, node, language)';
comment on column node_language.run_id is 'run';
comment on column node_language.graph is 'graph';
comment on column node_language.node is 'node';
comment on column node_language.language is 'language';
comment on column node_language.n_prompts is 'prompts of the language it is active on';
comment on column node_language.frequency is 'n_prompts / prompts of the language';
comment on column node_language.mean_activation is 'over these';
comment on column node_language.sd_activation is 'over these';

create table edge (
    run_id              varchar not null,
    graph               integer not null,
    kind                edge_kind not null,
    source              integer not null,
    target              integer not null,
    source_layer        smallint,
    source_feature      integer,
    target_kind         node_kind not null,
    target_layer        smallint,
    target_feature      integer,
    weight              double not null,
    sd                  double,
    n_prompts           integer,
    frequency           double,
    static_weight       double,
    attribution         double,
    target_weighted     double,
    selection_frequency double,
    sign_stability      double,
    ci_low              double,
    ci_high             double,
    p_value             double,
    q_value             double,
    accepted            boolean not null
);
comment on table edge is 'one row per edge; keyed by graph, kind, source and target node; key (run_id, graph, kind, source, target)';
comment on column edge.run_id is 'run';
comment on column edge.graph is 'graph';
comment on column edge.kind is 'how the weight is defined, METHODS section 3';
comment on column edge.source is 'source node';
comment on column edge.target is 'target node';
comment on column edge.source_layer is 'layer of the source, null for tokens and inputs';
comment on column edge.source_feature is 'feature of the source';
comment on column edge.target_kind is 'features, inputs, outputs and logits can be targets';
comment on column edge.target_layer is 'layer of the target';
comment on column edge.target_feature is 'feature of the target';
comment on column edge.weight is 'mean over prompts where the source is active; the single value in a graph of one prompt';
comment on column edge.sd is 'standard deviation over prompts';
comment on column edge.n_prompts is 'prompts it was measured on';
comment on column edge.frequency is 'share of prompts with a nonzero value';
comment on column edge.static_weight is 'V_ij of a virtual weight, without activations';
comment on column edge.attribution is 'E[1(a_j > 0) a_i] V_ij';
comment on column edge.target_weighted is 'E[a_i a_j] / E[a_j] V_ij';
comment on column edge.selection_frequency is 'share of bootstrap resamples that select it';
comment on column edge.sign_stability is 'share of prompts with the sign of the mean';
comment on column edge.ci_low is '95 % interval over concepts';
comment on column edge.ci_high is '95 % interval over concepts';
comment on column edge.p_value is 'over concept clusters, causal edges';
comment on column edge.q_value is 'Benjamini-Hochberg over all candidates of the graph';
comment on column edge.accepted is 'false: a candidate that was tested and rejected, or pruned';

create table edge_language (
    run_id    varchar not null,
    graph     integer not null,
    kind      edge_kind not null,
    source    integer not null,
    target    integer not null,
    language  varchar not null,
    n_prompts integer not null,
    weight    double not null,
    sd        double,
    attribution double
);
comment on table edge_language is 'one row per edge and language, graphs over prompts; key (run_id, graph, kind, source, target, language)';
comment on column edge_language.run_id is 'run';
comment on column edge_language.graph is 'graph';
comment on column edge_language.kind is 'kind';
comment on column edge_language.source is 'source node';
comment on column edge_language.target is 'target node';
comment on column edge_language.language is 'language';
comment on column edge_language.n_prompts is 'prompts of the language';
comment on column edge_language.weight is 'mean over these';
comment on column edge_language.sd is 'standard deviation over these';
comment on column edge_language.attribution is 'virtual weights: E[1(a_j > 0) a_i] V_ij over the language''s tokens';

create table edge_prompt (
    run_id      varchar not null,
    graph       integer not null,
    kind        edge_kind not null,
    source      integer not null,
    target      integer not null,
    prompt      integer not null,
    weight      double not null,
    conditional boolean
);
comment on table edge_prompt is 'one row per edge and prompt: the values behind star and causal edges; key (run_id, graph, kind, source, target, prompt)';
comment on column edge_prompt.run_id is 'run';
comment on column edge_prompt.graph is 'graph';
comment on column edge_prompt.kind is 'kind';
comment on column edge_prompt.source is 'source node';
comment on column edge_prompt.target is 'target node';
comment on column edge_prompt.prompt is 'prompt';
comment on column edge_prompt.weight is 'value on that prompt';
comment on column edge_prompt.conditional is 'causal edges: whether the source was active';

create table target_total (
    run_id            varchar not null,
    graph             integer not null,
    node              integer not null,
    absolute_total    double not null,
    absolute_selected double not null,
    signed_total      double not null,
    constant          double not null
);
comment on table target_total is 'one row per attributed target: what its incoming edges are normalised by; key (run_id, graph, node)';
comment on column target_total.run_id is 'run';
comment on column target_total.graph is 'graph';
comment on column target_total.node is 'target node';
comment on column target_total.absolute_total is 'sum of absolute weights over all sources';
comment on column target_total.absolute_selected is 'the same over stored sources only';
comment on column target_total.signed_total is 'sum of weights over all sources';
comment on column target_total.constant is 'what no source carries: biases, left-out positions';

create table partition (
    run_id     varchar not null references run (run_id),
    graph      integer not null,
    partition  integer not null,
    kind       varchar not null,
    algorithm  varchar not null,
    seed       integer,
    resolution double,
    quality    double,
    n_groups   integer not null,
    stability  double,
    primary key (run_id, graph, partition)
);
comment on table partition is 'one row per division of a graph into communities or supernodes';
comment on column partition.run_id is 'run';
comment on column partition.graph is 'graph';
comment on column partition.partition is 'ordinal within the graph';
comment on column partition.kind is 'community or supernode';
comment on column partition.algorithm is 'e.g. louvain, consensus, average linkage';
comment on column partition.seed is 'seed';
comment on column partition.resolution is 'resolution parameter';
comment on column partition.quality is 'modularity';
comment on column partition.n_groups is 'number of groups';
comment on column partition.stability is 'mean adjusted Rand index over seeds';

create table community (
    run_id    varchar not null,
    graph     integer not null,
    partition integer not null,
    node      integer not null,
    community integer not null,
    stability double
);
comment on table community is 'one row per node of a community partition; key (run_id, graph, partition, node)';
comment on column community.run_id is 'run';
comment on column community.graph is 'graph';
comment on column community.partition is 'partition';
comment on column community.node is 'node';
comment on column community.community is 'group, 0 is the largest';
comment on column community.stability is 'share of seeds in which the node stays with its group';

create table supernode (
    run_id    varchar not null,
    graph     integer not null,
    partition integer not null,
    node      integer not null,
    supernode integer not null,
    name      varchar,
    stability double
);
comment on table supernode is 'one row per node of a supernode partition; key (run_id, graph, partition, node)';
comment on column supernode.run_id is 'run';
comment on column supernode.graph is 'graph';
comment on column supernode.partition is 'partition';
comment on column supernode.node is 'node';
comment on column supernode.supernode is 'group, 0 is the largest';
comment on column supernode.name is 'name for people';
comment on column supernode.stability is 'share of resamples in which the node stays with its group';


-- ----------------------------------------------------------------------------------------------------
-- Interventions
-- ----------------------------------------------------------------------------------------------------

create table intervention (
    run_id        varchar not null references run (run_id),
    intervention  integer not null,
    name          varchar not null,
    behaviour     varchar,
    rule          rule not null,
    mode          mode not null,
    positions     position_rule not null,
    strength      double,
    hook          varchar not null,
    keeps_error   boolean not null,
    sound         boolean not null,
    n_members     integer not null,
    layer_low     smallint,
    layer_high    smallint,
    control_of    integer,
    control       control_kind,
    draw          integer,
    n_pool        integer,
    distinct_sets double,
    seed          integer,
    noise_floor   double,
    parameters    varchar,
    primary key (run_id, intervention)
);
comment on table intervention is 'one row per thing that was done, controls included';
comment on column intervention.run_id is 'run';
comment on column intervention.intervention is 'ordinal within the run';
comment on column intervention.name is 'text for people';
comment on column intervention.behaviour is 'behaviour';
comment on column intervention.rule is 'how target values follow from the clean run';
comment on column intervention.mode is 'what recomputes after the edit';
comment on column intervention.positions is 'where';
comment on column intervention.strength is 'alpha of scale and add';
comment on column intervention.hook is 'tensor that was edited: mlp_out here; imported runs may say mlp_in';
comment on column intervention.keeps_error is 'whether the reconstruction error stays in place';
comment on column intervention.sound is 'false: known to be done at the wrong place, see run.method';
comment on column intervention.n_members is 'features edited together';
comment on column intervention.layer_low is 'lowest edited layer';
comment on column intervention.layer_high is 'highest edited layer';
comment on column intervention.control_of is 'the intervention it controls';
comment on column intervention.control is 'kind of control';
comment on column intervention.draw is 'which draw of the control';
comment on column intervention.n_pool is 'features the control could be drawn from';
comment on column intervention.distinct_sets is 'number of distinct control sets';
comment on column intervention.seed is 'seed of the draw';
comment on column intervention.noise_floor is 'largest |effect| of the no-op over batch shapes';
comment on column intervention.parameters is 'JSON of all other settings';

create table intervention_member (
    run_id       varchar not null,
    intervention integer not null,
    layer        smallint not null,
    feature      integer not null,
    position     smallint not null,
    value        double,
    concept      varchar
);
comment on table intervention_member is 'one row per feature edited by an intervention; key (run_id, intervention, layer, feature, position, concept)';
comment on column intervention_member.run_id is 'run';
comment on column intervention_member.intervention is 'intervention';
comment on column intervention_member.layer is 'layer';
comment on column intervention_member.feature is 'feature';
comment on column intervention_member.position is 'position; -1 stands for the intervention''s position rule';
comment on column intervention_member.value is 'absolute target value where it is the same on all prompts, else null';
comment on column intervention_member.concept is 'concept whose feature set it belongs to, where sets differ by concept; null: the same set for all prompts';

create table outcome (
    run_id               varchar not null,
    intervention         integer not null,
    prompt               integer not null,
    source_prompt        integer not null,
    margin_before        float not null,
    margin_after         float not null,
    effect               float not null,
    kl                   float,
    top1_before          integer,
    top1_after           integer,
    predicted_gradient   float,
    predicted_integrated float,
    n_edited             integer,
    delta_norm           float
);
comment on table outcome is 'one row per intervention, prompt and source prompt: what it did; key (run_id, intervention, prompt, source_prompt)';
comment on column outcome.run_id is 'run';
comment on column outcome.intervention is 'intervention';
comment on column outcome.prompt is 'prompt that was run';
comment on column outcome.source_prompt is 'prompt whose values were put in; -1 where there is none';
comment on column outcome.margin_before is 'margin of the unedited run';
comment on column outcome.margin_after is 'margin of the edited run';
comment on column outcome.effect is 'after - before';
comment on column outcome.kl is 'KL(before || after), nats';
comment on column outcome.top1_before is 'token';
comment on column outcome.top1_after is 'token';
comment on column outcome.predicted_gradient is '(a'' - a) x gradient, summed over members';
comment on column outcome.predicted_integrated is 'integrated gradients';
comment on column outcome.n_edited is '(position, feature) values that really changed; null where an import does not say';
comment on column outcome.delta_norm is 'Euclidean norm of the edit at the MLP output, summed in squares over places';

create table outcome_answer (
    run_id         varchar not null,
    intervention   integer not null,
    prompt         integer not null,
    source_prompt  integer not null,
    answer         smallint not null,
    token_id       integer not null,
    logit_before   float not null,
    logit_after    float not null,
    logprob_before float not null,
    logprob_after  float not null
);
comment on table outcome_answer is 'one row per outcome and answer; key (run_id, intervention, prompt, source_prompt, answer)';
comment on column outcome_answer.run_id is 'run';
comment on column outcome_answer.intervention is 'intervention';
comment on column outcome_answer.prompt is 'prompt';
comment on column outcome_answer.source_prompt is '-1 where there is none';
comment on column outcome_answer.answer is 'answer ordinal of the prompt; -1: the source''s answer in the target language, -2: the source''s own answer, -3: its partner';
comment on column outcome_answer.token_id is 'token';
comment on column outcome_answer.logit_before is 'logit of the unedited run';
comment on column outcome_answer.logit_after is 'logit of the edited run';
comment on column outcome_answer.logprob_before is 'nats';
comment on column outcome_answer.logprob_after is 'nats';

create table effect (
    run_id       varchar not null references run (run_id),
    intervention integer not null,
    language     varchar not null,
    split        varchar not null,
    control      varchar not null,
    n_prompts    integer not null,
    n_clusters   integer not null,
    mean         double not null,
    ci_low       double,
    ci_high      double,
    method       varchar,
    control_mean double,
    control_low  double,
    control_high double,
    n_controls   integer not null,
    length_ratio double,
    n_in_caliper integer,
    n_left_out   integer,
    p_value      double,
    q_value      double,
    primary key (run_id, intervention, language, split, control)
);
comment on table effect is 'one row per intervention and language: the tested summary of outcome';
comment on column effect.run_id is 'run';
comment on column effect.intervention is 'intervention, never a control';
comment on column effect.language is 'language of the prompts, or all';
comment on column effect.split is 'split, held_out (all but train), or all';
comment on column effect.control is 'control_kind it is compared with, or none';
comment on column effect.n_prompts is 'prompts';
comment on column effect.n_clusters is 'concepts';
comment on column effect.mean is 'mean effect';
comment on column effect.ci_low is '95 % interval over concepts';
comment on column effect.ci_high is '95 % interval over concepts';
comment on column effect.method is 'interval''s method';
comment on column effect.control_mean is 'mean effect of the controls';
comment on column effect.control_low is '2.5 % quantile over draws';
comment on column effect.control_high is '97.5 % quantile over draws';
comment on column effect.n_controls is 'draws';
comment on column effect.length_ratio is 'mean over draws of outcome.delta_norm over the intervention''s own on the same prompts; null without delta_norm';
comment on column effect.n_in_caliper is 'draws whose change is as long as the intervention''s own, within 20 %';
comment on column effect.n_left_out is 'prompts of the intervention that have no such control and are left out of this comparison';
comment on column effect.p_value is '(1 + #controls as extreme) / (1 + draws); null below 100 distinct sets';
comment on column effect.q_value is 'Benjamini-Hochberg within (run, rule, language)';


create table continuation (
    run_id         varchar not null references run (run_id),
    intervention   integer not null,
    prompt         integer not null,
    sample         smallint not null,
    temperature    double not null,
    seed           integer,
    text           varchar not null,
    token_ids      integer[] not null,
    tokens         varchar[] not null,
    token_logprobs float[] not null,
    kl             double,
    primary key (run_id, intervention, prompt, sample)
);
comment on table continuation is 'one row per intervention, prompt and sample: how the model went on';
comment on column continuation.run_id is 'run';
comment on column continuation.intervention is 'intervention under which it was written; the one of rule no_op is the unedited model';
comment on column continuation.prompt is 'prompt it follows';
comment on column continuation.sample is 'ordinal of the sample; samples of one ordinal share their random numbers';
comment on column continuation.temperature is '0 is greedy';
comment on column continuation.seed is 'seed of the samples; null where greedy';
comment on column continuation.text is 'the new tokens as one text';
comment on column continuation.token_ids is 'the new tokens';
comment on column continuation.tokens is 'their texts';
comment on column continuation.token_logprobs is 'log-probability of each under the run that wrote it (at temperature 1), nats';
comment on column continuation.kl is 'KL(unedited || edited) of the token after the prompt, nats; null where unedited';

create table next_token (
    run_id         varchar not null references run (run_id),
    intervention   integer not null,
    prompt         integer not null,
    token_id       integer not null,
    token          varchar not null,
    logprob_before double not null,
    logprob_after  double not null,
    primary key (run_id, intervention, prompt, token_id)
);
comment on table next_token is 'one row per intervention, prompt and token that it made much more or much less probable as the next one';
comment on column next_token.run_id is 'run';
comment on column next_token.intervention is 'intervention';
comment on column next_token.prompt is 'prompt';
comment on column next_token.token_id is 'token';
comment on column next_token.token is 'its text';
comment on column next_token.logprob_before is 'log-probability after the prompt, unedited, nats';
comment on column next_token.logprob_after is 'the same, edited';

create table feature_change (
    run_id       varchar not null references run (run_id),
    intervention integer not null,
    prompt       integer not null,
    layer        smallint not null,
    feature      integer not null,
    position     smallint not null,
    before       float not null,
    after        float not null,
    primary key (run_id, intervention, prompt, layer, feature, position)
);
comment on table feature_change is 'one row per intervention, prompt and place of a later feature that it moved most';
comment on column feature_change.run_id is 'run';
comment on column feature_change.intervention is 'intervention';
comment on column feature_change.prompt is 'prompt';
comment on column feature_change.layer is 'layer, above the lowest edited one';
comment on column feature_change.feature is 'feature';
comment on column feature_change.position is 'position in the prompt';
comment on column feature_change.before is 'activation in the unedited run';
comment on column feature_change.after is 'activation in the edited run';


-- ----------------------------------------------------------------------------------------------------
-- Circuits and evidence
-- ----------------------------------------------------------------------------------------------------

create table circuit (
    run_id     varchar not null references run (run_id),
    circuit    integer not null,
    graph      integer,
    name       varchar not null,
    behaviour  varchar,
    method     varchar not null,
    reference  varchar,
    control_of integer,
    n_features integer not null,
    n_edges    integer not null,
    parameters varchar,
    primary key (run_id, circuit)
);
comment on table circuit is 'one row per circuit';
comment on column circuit.run_id is 'run';
comment on column circuit.circuit is 'ordinal within the run';
comment on column circuit.graph is 'graph it was found in';
comment on column circuit.name is 'name for people';
comment on column circuit.behaviour is 'behaviour';
comment on column circuit.method is 'how it was found';
comment on column circuit.reference is 'reference values of non-members: zero, mean, counterfactual';
comment on column circuit.control_of is 'the circuit it is a random match of';
comment on column circuit.n_features is 'features, inputs and outputs not counted';
comment on column circuit.n_edges is 'edges';
comment on column circuit.parameters is 'JSON of all other settings';

create table circuit_member (
    run_id         varchar not null,
    circuit        integer not null,
    member         integer not null,
    kind           member_kind not null,
    layer          smallint,
    feature        integer,
    position       smallint,
    role           token_role,
    target_layer   smallint,
    target_feature integer,
    edge_kind      edge_kind,
    weight         double,
    primary key (run_id, circuit, member)
);
comment on table circuit_member is 'one row per feature or edge of a circuit';
comment on column circuit_member.run_id is 'run';
comment on column circuit_member.circuit is 'circuit';
comment on column circuit_member.member is 'ordinal';
comment on column circuit_member.kind is 'feature or edge';
comment on column circuit_member.layer is 'layer of the feature, or of the edge''s source';
comment on column circuit_member.feature is 'feature';
comment on column circuit_member.position is 'position, null for a role';
comment on column circuit_member.role is 'role of the position';
comment on column circuit_member.target_layer is 'edge''s target';
comment on column circuit_member.target_feature is 'edge''s target; null is the output';
comment on column circuit_member.edge_kind is 'kind of the edge';
comment on column circuit_member.weight is 'weight of the edge';

create table path (
    run_id  varchar not null references run (run_id),
    graph   integer not null,
    kind    edge_kind not null,
    rank    integer not null,
    circuit integer,
    nodes   integer[] not null,
    weights double[] not null,
    score   double not null,
    target  varchar,
    primary key (run_id, graph, kind, rank)
);
comment on table path is 'one row per chain through a graph';
comment on column path.run_id is 'run';
comment on column path.graph is 'graph';
comment on column path.kind is 'kind of all its edges';
comment on column path.rank is '0 is strongest';
comment on column path.circuit is 'circuit it belongs to';
comment on column path.nodes is 'nodes from source to sink';
comment on column path.weights is 'normalised weight of each step';
comment on column path.score is 'product of the weights';
comment on column path.target is 'sink it ends in';

create table evaluation (
    run_id           varchar not null references run (run_id),
    evaluation       integer not null,
    subject          varchar not null,
    circuit          integer,
    behaviour        varchar,
    property         varchar not null,
    computation_type computation_type,
    language         varchar not null,
    split            varchar not null,
    reference        varchar,
    error_mode       varchar,
    x                double,
    value            double,
    ci_low           double,
    ci_high          double,
    control_mean     double,
    control_low      double,
    control_high     double,
    n_controls       integer,
    n_prompts        integer,
    n_clusters       integer,
    p_value          double,
    supports         boolean,
    note             varchar,
    model            varchar,
    dtype            varchar,
    primary key (run_id, evaluation)
);
comment on table evaluation is 'one row per measured property of a circuit, a behaviour or a computation type';
comment on column evaluation.run_id is 'run';
comment on column evaluation.evaluation is 'ordinal within the run';
comment on column evaluation.subject is 'circuit, behaviour or type';
comment on column evaluation.circuit is 'circuit, where the subject is one';
comment on column evaluation.behaviour is 'behaviour';
comment on column evaluation.property is 'e.g. necessity, faithfulness, cpr, directionality';
comment on column evaluation.computation_type is 'type whose test this is';
comment on column evaluation.language is 'language, or all';
comment on column evaluation.split is 'split, held_out (all but train), or all';
comment on column evaluation.reference is 'reference values of non-members';
comment on column evaluation.error_mode is 'reconstruction error: clean, live or mean';
comment on column evaluation.x is 'point of a curve: share of nodes kept, strength';
comment on column evaluation.value is 'measured';
comment on column evaluation.ci_low is 'interval';
comment on column evaluation.ci_high is 'interval';
comment on column evaluation.control_mean is 'mean over matched random ones';
comment on column evaluation.control_low is '2.5 % quantile';
comment on column evaluation.control_high is '97.5 % quantile';
comment on column evaluation.n_controls is 'random ones';
comment on column evaluation.n_prompts is 'prompts';
comment on column evaluation.n_clusters is 'concepts';
comment on column evaluation.p_value is '(1 + #control as extreme) / (1 + n)';
comment on column evaluation.supports is 'evidence for (true) or against (false), null where undecided';
comment on column evaluation.note is 'what to know when reading it';
comment on column evaluation.model is 'model it was measured on, where that is not the run''s analysed model';
comment on column evaluation.dtype is 'dtype of that model';

create table transfer (
    run_id               varchar not null,
    intervention         integer not null,
    prompt               integer not null,
    source_prompt        integer not null,
    source_language      varchar not null,
    target_language      varchar not null,
    source_concept       varchar not null,
    target_concept       varchar not null,
    expected_token_id    integer not null,
    rise                 double not null,
    rise_source_language double,
    rise_partner         double,
    prefers_expected     boolean not null,
    control              control_kind
);
comment on table transfer is 'one row per swap of features from a source prompt into a target prompt; key (run_id, intervention, prompt, source_prompt)';
comment on column transfer.run_id is 'run';
comment on column transfer.intervention is 'intervention of rule swap';
comment on column transfer.prompt is 'target prompt';
comment on column transfer.source_prompt is 'source prompt';
comment on column transfer.source_language is 'language';
comment on column transfer.target_language is 'language';
comment on column transfer.source_concept is 'concept';
comment on column transfer.target_concept is 'concept';
comment on column transfer.expected_token_id is 'the source''s answer in the target language';
comment on column transfer.rise is 'rise of logit(expected) - logit(target''s own answer)';
comment on column transfer.rise_source_language is 'the same for the source''s answer in its own language';
comment on column transfer.rise_partner is 'the same for the antonym partner in the target language';
comment on column transfer.prefers_expected is 'whether the expected answer beats the target''s own after the swap';
comment on column transfer.control is 'null for the swap itself';


-- ----------------------------------------------------------------------------------------------------
-- Comparisons
-- ----------------------------------------------------------------------------------------------------

create table feature_match (
    run_id           varchar not null,
    measure          varchar not null,
    match            integer not null,
    run_a            varchar not null,
    run_b            varchar not null,
    transcoder_set_a varchar not null,
    transcoder_set_b varchar not null,
    layer_a          smallint,
    feature_a        integer,
    layer_b          smallint,
    feature_b        integer,
    relation         varchar not null,
    similarity       double,
    cosine           double,
    jaccard          double
);
comment on table feature_match is 'one row per pair of features of two runs, or feature of one alone: what became of it; key (run_id, measure, match)';
comment on column feature_match.run_id is 'comparing run';
comment on column feature_match.measure is 'decoder: cosine of decoder rows; coactivation: Jaccard of active tokens of the texts that both runs have';
comment on column feature_match.match is 'ordinal within the run and measure';
comment on column feature_match.run_a is 'first run';
comment on column feature_match.run_b is 'second run';
comment on column feature_match.transcoder_set_a is 'its dictionary';
comment on column feature_match.transcoder_set_b is 'its dictionary';
comment on column feature_match.layer_a is 'layer in the first';
comment on column feature_match.feature_a is 'feature of the first; null where it is new';
comment on column feature_match.layer_b is 'layer in the second';
comment on column feature_match.feature_b is 'feature of the second; null where it is gone';
comment on column feature_match.relation is 'identical, matched, split, merged, weak, gone or new; defined in docs/compare.md';
comment on column feature_match.similarity is 'by the measure; null where nothing is near';
comment on column feature_match.cosine is 'of the decoder rows, where known';
comment on column feature_match.jaccard is 'of the active tokens, where known';


-- ----------------------------------------------------------------------------------------------------
-- People's words and claims
-- ----------------------------------------------------------------------------------------------------

create table label (
    label_id       varchar not null,
    transcoder_set varchar not null,
    layer          smallint not null,
    feature        integer not null,
    text           varchar not null,
    method         label_method not null,
    model          varchar,
    author         varchar,
    source_run     varchar,
    version        varchar,
    rule           varchar,
    created_at     timestamp not null,
    retired        boolean not null,
    primary key (label_id)
);
comment on table label is 'one row per label of a feature';
comment on column label.label_id is '16 hex digits';
comment on column label.transcoder_set is 'set';
comment on column label.layer is 'layer';
comment on column label.feature is 'feature';
comment on column label.text is 'the label';
comment on column label.method is 'how it was made';
comment on column label.model is 'model that wrote it';
comment on column label.author is 'person or tool';
comment on column label.source_run is 'run whose texts it was made from; null where a person or another tool made it';
comment on column label.version is 'version of the rules or of the prompt that made it';
comment on column label.rule is 'JSON: where the label says that the feature fires, for labels that can be scored by rule';
comment on column label.created_at is 'naive UTC';
comment on column label.retired is 'replaced by a later one';

create table label_score (
    label_id       varchar not null,
    score          varchar not null,
    language       varchar not null,
    prompt_version varchar not null,
    value          double not null,
    n_examples     integer not null,
    ci_low         double,
    ci_high        double,
    sensitivity    double,
    specificity    double,
    auc            double,
    n_activating   integer,
    source_run     varchar,
    model          varchar,
    primary key (label_id, score, language, prompt_version)
);
comment on table label_score is 'one row per label, score and language';
comment on column label_score.label_id is 'label';
comment on column label_score.score is 'detection, fuzzing or intruder';
comment on column label_score.language is 'language of the examples';
comment on column label_score.prompt_version is 'version of the scoring prompt, scorer, and run of the examples, e.g. detection-1/rule@e7c4d7f6';
comment on column label_score.value is 'balanced accuracy';
comment on column label_score.n_examples is 'examples';
comment on column label_score.ci_low is '95 % interval over examples';
comment on column label_score.ci_high is '95 % interval over examples';
comment on column label_score.sensitivity is 'share of activating examples that were recognised';
comment on column label_score.specificity is 'share of the other examples that were recognised';
comment on column label_score.auc is 'area under the ROC curve of its probabilities; null where it gives none';
comment on column label_score.n_activating is 'activating examples';
comment on column label_score.source_run is 'run whose texts were judged';
comment on column label_score.model is 'scorer';

create table label_example (
    run_id      varchar not null,
    label_id    varchar not null,
    layer       smallint not null,
    feature     integer not null,
    score       varchar not null,
    language    varchar not null,
    example     smallint not null,
    source      token_source not null,
    item        integer not null,
    position    smallint not null,
    activating  boolean not null,
    quantile    smallint,
    predicted   boolean not null,
    probability double
);
comment on table label_example is 'one row per example that a label was scored on; key (run_id, label_id, layer, feature, score, language, example)';
comment on column label_example.run_id is 'scoring run';
comment on column label_example.label_id is 'label; empty for intruder detection, which needs none';
comment on column label_example.layer is 'layer';
comment on column label_example.feature is 'feature';
comment on column label_example.score is 'detection, fuzzing or intruder';
comment on column label_example.language is 'language of the example';
comment on column label_example.example is 'ordinal';
comment on column label_example.source is 'prompt or document of the run whose texts were judged';
comment on column label_example.item is 'its ordinal';
comment on column label_example.position is 'token it speaks of';
comment on column label_example.activating is 'whether the feature fires there (fuzzing: whether the marked tokens are the firing ones)';
comment on column label_example.quantile is 'decile among the activations in that language, 9 is strongest; null where it is silent';
comment on column label_example.predicted is 'what the scorer said';
comment on column label_example.probability is 'how sure it was, where it says';

create table intruder_score (
    run_id         varchar not null references run (run_id),
    source_run     varchar not null,
    transcoder_set varchar not null,
    layer          smallint not null,
    feature        integer not null,
    language       varchar not null,
    prompt_version varchar not null,
    value          double not null,
    chance         double not null,
    n_trials       integer not null,
    ci_low         double not null,
    ci_high        double not null,
    model          varchar,
    primary key (run_id, layer, feature, language, prompt_version)
);
comment on table intruder_score is 'one row per feature and language: how often the text it does not fire on is found among texts it fires on';
comment on column intruder_score.run_id is 'scoring run';
comment on column intruder_score.source_run is 'run whose texts were judged';
comment on column intruder_score.transcoder_set is 'set';
comment on column intruder_score.layer is 'layer';
comment on column intruder_score.feature is 'feature';
comment on column intruder_score.language is 'language of the texts';
comment on column intruder_score.prompt_version is 'version of the scoring prompt, and scorer';
comment on column intruder_score.value is 'share of trials in which the intruder was found';
comment on column intruder_score.chance is '1 / texts of a trial';
comment on column intruder_score.n_trials is 'trials';
comment on column intruder_score.ci_low is '95 % Wilson interval over trials';
comment on column intruder_score.ci_high is '95 % Wilson interval over trials';
comment on column intruder_score.model is 'scorer';

create table label_failure (
    run_id   varchar not null references run (run_id),
    failure  integer not null,
    layer    smallint not null,
    feature  integer not null,
    step     varchar not null,
    language varchar,
    label_id varchar,
    reason   varchar not null,
    attempts smallint not null,
    primary key (run_id, failure)
);
comment on table label_failure is 'one row per feature that a language model gave no usable label or judgement for';
comment on column label_failure.run_id is 'labelling or scoring run';
comment on column label_failure.failure is 'ordinal within the run';
comment on column label_failure.layer is 'layer';
comment on column label_failure.feature is 'feature';
comment on column label_failure.step is 'write, detection, fuzzing or intruder';
comment on column label_failure.language is 'language of the examples';
comment on column label_failure.label_id is 'label that was to be scored';
comment on column label_failure.reason is 'what went wrong';
comment on column label_failure.attempts is 'times it was tried';

create table note (
    note_id        varchar not null,
    subject        varchar not null,
    transcoder_set varchar,
    layer          smallint,
    feature        integer,
    reference      varchar,
    text           varchar not null,
    author         varchar,
    created_at     timestamp not null,
    deleted        boolean not null,
    primary key (note_id)
);
comment on table note is 'one row per note';
comment on column note.note_id is '16 hex digits';
comment on column note.subject is 'what it is about: feature, prompt, run, circuit, atlas';
comment on column note.transcoder_set is 'set of the feature';
comment on column note.layer is 'layer of the feature';
comment on column note.feature is 'feature';
comment on column note.reference is 'id of another subject';
comment on column note.text is 'Markdown';
comment on column note.author is 'person';
comment on column note.created_at is 'naive UTC';
comment on column note.deleted is 'taken back';

create table star (
    transcoder_set varchar not null,
    layer          smallint not null,
    feature        integer not null,
    created_at     timestamp not null,
    primary key (transcoder_set, layer, feature)
);
comment on table star is 'one row per starred feature';
comment on column star.transcoder_set is 'set';
comment on column star.layer is 'layer';
comment on column star.feature is 'feature';
comment on column star.created_at is 'naive UTC';

create table saved_query (
    name       varchar not null,
    sql        varchar not null,
    parameters varchar,
    created_at timestamp not null,
    primary key (name)
);
comment on table saved_query is 'one row per saved query';
comment on column saved_query.name is 'name';
comment on column saved_query.sql is 'text';
comment on column saved_query.parameters is 'JSON';
comment on column saved_query.created_at is 'naive UTC';

create table claim (
    claim_id    varchar not null,
    statement   varchar not null,
    source      varchar not null,
    source_hash varchar,
    published   varchar not null,
    query       varchar not null,
    parameters  varchar,
    recomputed  varchar,
    tolerance   double,
    verdict     verdict not null,
    note        varchar,
    run_id      varchar,
    primary key (claim_id)
);
comment on table claim is 'one row per published figure and recomputation';
comment on column claim.claim_id is 'name in the claims file';
comment on column claim.statement is 'the claim in words';
comment on column claim.source is 'where it stands';
comment on column claim.source_hash is 'SHA-256 of the data behind it';
comment on column claim.published is 'value as published';
comment on column claim.query is 'question that recomputes it';
comment on column claim.parameters is 'JSON';
comment on column claim.recomputed is 'value the data give';
comment on column claim.tolerance is 'absolute';
comment on column claim.verdict is 'reproduced, contradicted or not reproducible';
comment on column claim.note is 'why';
comment on column claim.run_id is 'run it speaks of';


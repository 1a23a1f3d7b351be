-- How well do the transcoders stand for the MLPs, by layer and language?
--
-- Layer -1 is all ingested layers replaced at once. A dictionary that is worse in one language makes every language score of it doubtful.
-- decides: which layers to trust, and whether languages can be compared at all
-- grain: one row per layer and language
-- main: transcoder_quality
-- key: layer, language
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   layer | smallint | - | layer; -1 is all at once
--   language | varchar | - | language
--   n_tokens | bigint | tokens | tokens measured
--   l0 | double | features | active features a token
--   fvu | double | share | variance of the MLP's output that is not explained
--   n_dead | integer | features | never active on these tokens
--   kl | double | nats | divergence of the model with this MLP replaced
--   top1_agreement | double | share | decision positions whose top token stays
--   fvu_ratio | double | ratio | fvu / smallest fvu of the layer over languages
select
    layer,
    language,
    n_tokens,
    l0,
    fvu,
    n_dead,
    kl,
    top1_agreement,
    fvu / nullif(min(fvu) over (partition by layer), 0) as fvu_ratio
from transcoder_quality
where run_id = $run
order by layer, language;

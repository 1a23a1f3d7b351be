-- How well does the unedited model do each behaviour in each language?
--
-- Accuracy is the share of margins above 0, with Wilson's interval over prompts and the number of concepts that stand behind them.
-- decides: whether a behaviour may be analysed in a language at all
-- grain: one row per behaviour, language and split
-- main: baseline
-- key: behaviour, language, split
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   behaviour | varchar | - | behaviour
--   language | varchar | - | language; all is every language
--   split | varchar | - | split; all is every split
--   n_prompts | bigint | prompts | prompts
--   n_concepts | bigint | clusters | clusters
--   n_correct | bigint | prompts | margin above 0
--   accuracy | double | share | n_correct / n_prompts
--   low | double | share | Wilson's 95 % interval
--   high | double | share | Wilson's 95 % interval
--   top1_correct | double | share | prompts whose top token is the correct answer; null where unknown
--   mean_margin | double | logits | mean margin
--   mean_entropy | double | nats | mean entropy of the next-token distribution
--   gate | double | share | accuracy that the plan asks for
--   passes | boolean | - | whether accuracy reaches the gate
--   fvu | double | share | variance of the MLP outputs that the dictionary leaves unexplained, mean over layers; null where not measured
--   kl_replaced | double | nats | KL(model || model with all its MLPs replaced by the dictionary) at decision positions
with scored as (
    select
        p.behaviour,
        p.language,
        p.split::varchar as split,
        coalesce(p.cluster, p.concept) as cluster,
        b.correct,
        b.margin::double as margin,
        b.entropy::double as entropy,
        (b.top1_token_id = a.token_id)::integer as top1
    from baseline b
    join prompt p using (run_id, prompt)
    left join answer a on a.run_id = b.run_id and a.prompt = b.prompt and a.answer = 0
    where b.run_id = $run
),
counted as (
    select
        behaviour,
        coalesce(language, 'all') as language,
        coalesce(split, 'all') as split,
        count(*) as n_prompts,
        count(distinct cluster) as n_concepts,
        count(*) filter (where correct) as n_correct,
        count(*) filter (where correct) / count(*) as accuracy,
        avg(top1) as top1_correct,
        avg(margin) as mean_margin,
        avg(entropy) as mean_entropy
    from scored
    group by grouping sets ((behaviour, language, split), (behaviour, language), (behaviour, split), (behaviour))
),
quality as (
    select
        coalesce(language, 'all') as language,
        sum(fvu * n_tokens) filter (where layer >= 0) / sum(n_tokens) filter (where layer >= 0 and fvu is not null) as fvu,
        sum(kl * n_tokens) filter (where layer = -1) / sum(n_tokens) filter (where layer = -1 and kl is not null) as kl_replaced
    from transcoder_quality
    where run_id = $run and language <> 'xx'
    group by grouping sets ((language), ())
),
normal as (
    select 1.959963984540054::double ** 2 as square
),
spread as (
    select c.*, sqrt(accuracy * (1 - accuracy) / n_prompts + square / (4.0 * n_prompts * n_prompts)) as spread
    from counted c
    cross join normal
)
select
    c.behaviour,
    c.language,
    c.split,
    c.n_prompts,
    c.n_concepts,
    c.n_correct,
    c.accuracy,
    (c.accuracy + z.square / (2 * c.n_prompts) - sqrt(z.square) * c.spread) / (1 + z.square / c.n_prompts) as low,
    (c.accuracy + z.square / (2 * c.n_prompts) + sqrt(z.square) * c.spread) / (1 + z.square / c.n_prompts) as high,
    c.top1_correct,
    c.mean_margin,
    c.mean_entropy,
    g.gate,
    c.accuracy >= g.gate as passes,
    q.fvu,
    q.kl_replaced
from spread c
cross join normal z
left join behaviour g on g.run_id = $run and g.behaviour = c.behaviour
left join quality q on q.language = c.language
order by c.behaviour, c.language, c.split;

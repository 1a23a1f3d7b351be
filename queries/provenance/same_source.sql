-- Which runs share a model, dictionaries, prompts or a seed?
--
-- Two runs that share all four are one measurement told twice; runs that share none cannot be compared.
-- decides: whether two results count as a replication
-- grain: one row per pair of runs
-- key: run_a, run_b
-- columns:
--   run_a | varchar | - | one run
--   name_a | varchar | - | its name
--   run_b | varchar | - | the other, later by id
--   name_b | varchar | - | its name
--   same_model | boolean | - | whether the model is the same; null where unknown
--   same_transcoders | boolean | - | whether the dictionaries are
--   same_prompts | boolean | - | whether prompts and answers are
--   same_seed | boolean | - | whether the seed is
--   same_plan | boolean | - | whether the plan is
--   common_prompts | bigint | prompts | prompts of equal hash
with real as (
    select * from run where kind <> 'publish'
),
common as (
    select a.run_id as run_a, b.run_id as run_b, count(distinct a.prompt_hash) as n
    from prompt a
    join prompt b on b.prompt_hash = a.prompt_hash and a.run_id < b.run_id
    group by a.run_id, b.run_id
)
select
    a.run_id as run_a,
    a.name as name_a,
    b.run_id as run_b,
    b.name as name_b,
    a.model_id = b.model_id as same_model,
    a.transcoder_set = b.transcoder_set as same_transcoders,
    a.prompt_set_hash = b.prompt_set_hash as same_prompts,
    a.seed = b.seed as same_seed,
    a.plan_hash = b.plan_hash as same_plan,
    coalesce(c.n, 0) as common_prompts
from real a
join real b on a.run_id < b.run_id
left join common c on c.run_a = a.run_id and c.run_b = b.run_id
order by run_a, run_b;

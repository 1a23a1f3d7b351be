-- Is the overlap of two languages larger in middle layers than in early ones?
--
-- Mean overlap of translations over the layers of three zones, each as a ratio to the early zone.
-- decides: whether a story of early, shared and late layers holds for this model
-- grain: one row per score, language pair and zone
-- main: layer_score
-- key: score, languages, zone
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   parameter_set | varchar | default | parameter set
--   early_last | smallint | 11 | last layer of the early zone
--   middle_last | smallint | 20 | last layer of the middle zone; later ones are late
-- columns:
--   score | varchar | - | iou, iou_content or iou_decision
--   languages | varchar | - | language pair
--   zone | varchar | - | early, middle or late
--   n_layers | bigint | layers | layers in the zone
--   mean_iou | double | share | mean over the zone's layers
--   null_mean | double | share | mean of the null over the zone's layers; null where there is none
--   ratio_to_early | double | ratio | mean_iou / mean_iou of the early zone
-- example: early_last=0, middle_last=1
with zoned as (
    select
        score,
        languages,
        case when layer <= $early_last then 'early' when layer <= $middle_last then 'middle' else 'late' end as zone,
        value,
        null_mean
    from layer_score
    where run_id = $run and baseline = 'same_concept' and parameter_set = $parameter_set and score in ('iou', 'iou_content', 'iou_decision')
),
means as (
    select score, languages, zone, count(*) as n_layers, avg(value) as mean_iou, avg(null_mean) as null_mean
    from zoned
    group by score, languages, zone
)
select
    score,
    languages,
    zone,
    n_layers,
    mean_iou,
    null_mean,
    mean_iou / max(mean_iou) filter (where zone = 'early') over (partition by score, languages) as ratio_to_early
from means
order by score, languages, zone;

-- Columns of text that stand for a closed set hold nothing else.
select distinct 'effect.control' as place, control as value
from effect
where control not in (
    'none', 'matched_random', 'matched_random_rescaled', 'same_norm_direction', 'error_only', 'whole_mlp', 'no_op', 'other_concept', 'antonym_partner', 'split_half'
)
union all
select distinct 'effect.split' as place, split as value
from effect
where split not in ('all', 'held_out', 'train', 'validation', 'test')
union all
select distinct 'layer_score.baseline' as place, baseline as value
from layer_score
where baseline not in ('same_concept', 'other_concept', 'antonym_partner', 'split_half')
union all
select distinct 'partition.kind' as place, kind as value
from partition
where kind not in ('community', 'supernode')
union all
select distinct 'evaluation.error_mode' as place, error_mode as value
from evaluation
where error_mode not in ('clean', 'live', 'mean')
union all
select distinct 'prompt.held_out' as place, held_out as value
from prompt
where held_out not in ('concept', 'template', 'both')
union all
select distinct 'feature_match.relation' as place, relation as value
from feature_match
where relation not in ('identical', 'matched', 'split', 'merged', 'weak', 'gone', 'new')
union all
select distinct 'feature_match.measure' as place, measure as value
from feature_match
where measure not in ('decoder', 'coactivation')
order by place, value
limit 20;

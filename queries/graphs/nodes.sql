-- What are all nodes of a graph, those that pruning removed too?
--
-- decides: what another program is given to draw or to analyse
-- grain: one row per node
-- main: node
-- key: graph, node
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
-- columns:
--   graph | integer | - | graph
--   node | integer | - | ordinal within the graph
--   kind | varchar | - | feature, error, token, logit, input or output
--   layer | smallint | - | layer; null for tokens, logits, input and output
--   feature | integer | - | feature; null for other kinds
--   position | smallint | - | position; null in graphs over prompts
--   role | varchar | - | role of the position, in graphs over prompts
--   token_id | integer | - | token of a token or logit
--   label | varchar | - | text for people
--   n_prompts | integer | prompts | prompts it is active on
--   frequency | double | share | of the graph's prompts
--   mean_activation | double | - | mean over prompts where active
--   sd_activation | double | - | standard deviation over these
--   influence | double | share | influence on the outputs; attribution graphs
--   cumulative_influence | double | share | of this and all stronger nodes
--   selection_frequency | double | share | bootstrap resamples that keep it
--   probability | double | - | of a logit
--   kept | boolean | - | survives pruning
--   universal | boolean | - | active on nearly every prompt of every language
select
    graph,
    node,
    kind::varchar as kind,
    layer,
    feature,
    position,
    role::varchar as role,
    token_id,
    label,
    n_prompts,
    frequency,
    mean_activation,
    sd_activation,
    influence,
    cumulative_influence,
    selection_frequency,
    probability,
    kept,
    universal
from node
where run_id = $run and graph = $graph
order by graph, node;

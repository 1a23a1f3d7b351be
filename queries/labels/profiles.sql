-- Which features fire on a single token, in one role, one language or one script?
--
-- Shares are of the sum of activations; the language's is of mean activations per token, since languages differ in tokens.
-- decides: which features a token explains, so that nothing else need be said about them
-- grain: one row per feature
-- main: feature_profile
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   single_token | double | 0.9 | share of one token at least; 0 lists all features
--   role | varchar | null | only features with most of their mass at this role; null is all
--   language | varchar | null | only features with most of their mean in this language; null is all
--   script | varchar | null | only this script; null is all
--   examples | integer | 5 | active tokens at least
--   top | integer | 100 | features at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   single_token_share | double | share | share of the strongest token
--   top_tokens | varchar[] | - | tokens, strongest first
--   top_shares | double[] | share | their shares
--   n_distinct_tokens | integer | tokens | different tokens it fires on
--   n_examples | integer | tokens | active tokens looked at
--   role | varchar | - | role with the largest share
--   role_share | double | share | its share
--   language | varchar | - | language with the largest mean
--   language_share | double | share | its share
--   script | varchar | - | script with the largest share
--   script_share | double | share | its share
--   position_mean | double | position | mean position, weighted by activation
--   basis | varchar | - | activations, or contexts of a corpus run
select
    p.layer,
    p.feature,
    'L' || p.layer || '_F' || p.feature as name,
    p.single_token_share,
    p.top_tokens,
    p.top_shares,
    p.n_distinct_tokens,
    p.n_examples,
    p.role::varchar as role,
    p.role_share,
    p.language,
    p.language_share,
    p.script,
    p.script_share,
    p.position_mean,
    p.basis
from feature_profile p
where p.run_id = $run
    and p.single_token_share >= $single_token
    and p.n_examples >= $examples
    and ($role is null or p.role::varchar = $role)
    and ($language is null or p.language = $language)
    and ($script is null or p.script = $script)
order by p.single_token_share desc, p.n_examples desc, p.layer, p.feature
limit $top;

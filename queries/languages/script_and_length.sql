-- How do the languages differ in length and script before any feature is looked at?
--
-- Tokens a word and letters outside ASCII confound every language score.
-- decides: whether a difference between languages may be one of tokenisation
-- grain: one row per language
-- main: prompt
-- key: language
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   language | varchar | - | language
--   n_prompts | bigint | prompts | prompts
--   n_concepts | bigint | concepts | concepts
--   n_templates | bigint | templates | templates
--   mean_tokens | double | tokens | tokens a prompt
--   tokens_per_word | double | tokens | tokens a word that a space separates
--   non_ascii | double | share | characters outside ASCII
with counted as (
    select
        language,
        concept,
        template,
        n_tokens,
        len(string_split_regex(trim(text), '\s+')) as n_words,
        length(text) as n_characters,
        length(regexp_replace(text, '[\x00-\x7F]', '', 'g')) as n_non_ascii
    from prompt
    where run_id = $run
)
select
    language,
    count(*) as n_prompts,
    count(distinct concept) as n_concepts,
    count(distinct template) as n_templates,
    avg(n_tokens) as mean_tokens,
    sum(n_tokens) / sum(n_words) filter (where n_tokens is not null) as tokens_per_word,
    sum(n_non_ascii) / sum(n_characters) as non_ascii
from counted
group by language
order by language;

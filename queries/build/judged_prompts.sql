-- Prompts of one run with a baseline: behaviour, language, concept, and whether the answer is right.
select b.prompt, p.behaviour, p.language, p.concept, b.correct
from baseline b
join prompt p using (run_id, prompt)
where b.run_id = $run
order by b.prompt;

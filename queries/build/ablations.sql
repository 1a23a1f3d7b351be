-- The ablation that stands for each single feature: everything later recomputes, first of its kind.
select m.layer, m.feature, min(i.intervention) as intervention
from intervention i
join intervention_member m using (run_id, intervention)
where i.run_id = $run and i.rule = 'zero' and i.n_members = 1 and i.control is null and i.mode = 'free'
group by m.layer, m.feature
order by m.layer, m.feature;

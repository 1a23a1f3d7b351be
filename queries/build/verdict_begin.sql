-- Room for the verdicts of the runs that lack them, before they are sorted.
create or replace temp table verdict as
select * from feature_verdict limit 0;

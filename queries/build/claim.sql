-- One checked claim.
insert or replace into claim
    (claim_id, statement, source, source_hash, published, query, parameters, recomputed, tolerance, verdict, note, run_id)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

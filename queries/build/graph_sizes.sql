-- A graph's number of edges, all of them: causal edges come from a later stage than the graph.
update graph
set n_edges = (
    select count(*)
    from edge
    where edge.run_id = graph.run_id and edge.graph = graph.graph
);

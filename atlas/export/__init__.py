"""What leaves an atlas: tables, figures, graphs, and a paper's folder of all of them.

In: Arrow tables (results of questions) and a `Provenance`. Out: files, each with a sidecar that says where its numbers come from.
Nothing here reads an atlas or knows a question: the caller asks and hands over. matplotlib, networkx and openpyxl are imported when
they are needed.

Modules: provenance (sidecars), numbers (rounding by uncertainty), cells (text of values), table, latex, figure, figures, graph, paper.
"""

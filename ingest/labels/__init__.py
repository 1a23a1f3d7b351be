"""Labels of features: made by rule, written by a language model, scored one language at a time.

- `texts`: the tokens that a run's features fired on, with language and role.
- `rule`: where a label says that its feature fires, in a form that can be checked.
- `mechanical`: profiles of all features and labels made of them, without a model.
- `examples`: texts on which a feature fires, by decile, and texts of the same language on which it is silent.
- `judges`: who scores: a rule, a local model by log-probability, a server that speaks the OpenAI protocol.
- `scoring`: detection, fuzzing, intruder detection; balanced accuracy with an interval.
- `endpoint`, `writer`: labels written by a language model on this machine.
- `runs`: each of these as a run of an atlas.
"""

"""From prompts to shards: model, transcoders, activations, graphs, interventions. The only package that imports torch."""

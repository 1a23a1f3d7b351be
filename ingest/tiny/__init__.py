"""The embedded default: a small bilingual Qwen3 and its transcoders."""

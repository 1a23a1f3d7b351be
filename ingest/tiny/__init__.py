"""The embedded default: a small bilingual Qwen3 with its transcoders, and a control that never read a translation."""

from ingest.tiny.paths import model_path, root, transcoder_path, verify

__all__ = ["model_path", "root", "transcoder_path", "verify"]

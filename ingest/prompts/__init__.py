"""Behaviours: prompt sets with their answers, one TOML file each."""

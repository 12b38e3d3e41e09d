"""Configuration: YAML groups composed by Hydra, validated by the strict models of `schema`."""

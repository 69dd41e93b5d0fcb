"""What each engine version can run: one JSON file per version, made by scripts/make_vllm_tables.py."""

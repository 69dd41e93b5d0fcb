"""What each version of an engine can run, made by scripts/make_vllm_tables.py."""

"""What a model's files say, judged against what an engine can run. Reads no weights, no network."""

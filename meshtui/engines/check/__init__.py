"""The whole verdict on a model: what rules found, the engine, the memory, and what to propose."""

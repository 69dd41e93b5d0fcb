"""How much GPU memory a model needs: weights, KV cache, overheads, and what fits on which GPU."""

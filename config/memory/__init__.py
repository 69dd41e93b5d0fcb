"""How much memory engines take beside weights and KV cache, as data per version."""

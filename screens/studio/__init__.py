"""The prompt studio: write a prompt, run it, watch the answer."""

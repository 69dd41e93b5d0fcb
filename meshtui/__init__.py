"""A terminal workstation for running Hugging Face models on your own GPUs."""

__version__ = "0.1.0"

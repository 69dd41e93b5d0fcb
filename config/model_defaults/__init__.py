"""The defaults of configuration classes, which configurations leave out, as data per version."""

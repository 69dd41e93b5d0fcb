"""How each engine is started and how its log is read, as data per version."""

"""Where a model that is judged is read from: a folder, the managed cache, the Hub."""

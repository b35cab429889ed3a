"""Web pages → shards. Read in the order of the data, starting from `build`: the jobs, one stage a line."""

__version__ = "0.1.0"

"""The ladder of learners on one log: how good each is, what it costs, and which to choose."""

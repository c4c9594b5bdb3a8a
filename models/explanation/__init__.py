"""Why a row has its score: what each column adds to the raw logit, exactly, from the graph that answers."""

"""`bulkembed estimate`: the requests, tokens, cost and duration of a run, before it starts."""

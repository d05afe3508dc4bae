"""`--sync`: a dataset that mirrors its input row by row, by id."""

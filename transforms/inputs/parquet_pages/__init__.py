"""Parquet columns with large pages: read value by value, so that no page is held as a whole."""

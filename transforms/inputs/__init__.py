"""Input: find, scan and read shards of Parquet and JSONL, on disks and object stores."""

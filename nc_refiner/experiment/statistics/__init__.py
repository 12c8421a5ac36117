"""What may be concluded from paired measurements. Numbers in, numbers out: no files, no YAML, no adapters."""

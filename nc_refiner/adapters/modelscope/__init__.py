"""ModelScope: MS-Vid2Vid-XL as an adapter, the same pipeline wrapped, and the base stages before it."""
